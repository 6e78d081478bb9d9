"""Check a dataset in COCO format against mmdet and a config."""
