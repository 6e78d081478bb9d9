_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DSNet',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='dsnet://tiny_in1k'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
