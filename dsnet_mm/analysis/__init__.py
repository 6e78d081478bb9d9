"""What the models cost, and the published formulation they are held against."""
