"""Convert datasets with VOC XML or YOLO text files to COCO format."""
