"""Comparing trained detectors: which belong together, what their runs reached, what it says."""
