"""The published weights: fetching, safe reading, conversion and strict loading."""
