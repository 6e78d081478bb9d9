_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '_base_/coco_instance_ms.py',
    '_base_/sgd.py',
    '_base_/schedule_3x.py',
    '_base_/runtime.py',
]
