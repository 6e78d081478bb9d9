_base_ = '_base_/retinanet_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='GLNet',
        arch='stl',
        out_indices=(1, 2, 3),
        norm_eval=False,
        drop_path_rate=0.0,
        out_norm_cfg=dict(type='LN'),
    ),
    neck=dict(in_channels=[192, 384, 768], start_level=0),
)
