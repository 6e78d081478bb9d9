"""Data sets: where they lie, their images, checks, conversions, and synthetic shapes."""
