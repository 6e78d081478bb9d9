"""Data sets: the synthetic shapes that tests and demonstrations run on."""
