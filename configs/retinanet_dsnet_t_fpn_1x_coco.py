_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/adamw_1x.py',
    '_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='DSNet',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/dsnet_t_in1k.pth'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
