_base_ = '_base_/retinanet_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DSNet',
        arch='tiny',
        norm_eval=False,
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
