"""Show detections and streams on a web page."""
