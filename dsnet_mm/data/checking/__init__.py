"""Is a data set in COCO's format what its config and mmdet take it for?"""
