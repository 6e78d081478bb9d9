"""From VOC-style XML and YOLO's text files to COCO's format."""
