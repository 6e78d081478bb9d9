"""Published weights: address, download, safe reading, conversion and cache."""
