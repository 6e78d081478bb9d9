"""Locate, check, convert and draw datasets."""
