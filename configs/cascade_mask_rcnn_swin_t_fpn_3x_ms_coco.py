_base_ = [
    '_base_/cascade_mask_rcnn_r50.py',
    '_base_/swin_t.py',
    '_base_/coco_instance_ms.py',
    '_base_/adamw.py',
    '_base_/schedule_3x.py',
    '_base_/runtime.py',
]

model = dict(backbone=_base_.swin_t, neck=dict(in_channels=[96, 192, 384, 768]))
