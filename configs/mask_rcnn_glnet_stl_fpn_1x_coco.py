_base_ = [
    '_base_/mask_rcnn_glnet_stl.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/adamw.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]
