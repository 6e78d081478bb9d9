_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '_base_/dsnet_s.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/adamw.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]

model = dict(backbone=_base_.dsnet_s, neck=dict(in_channels=[64, 128, 320, 512]))
