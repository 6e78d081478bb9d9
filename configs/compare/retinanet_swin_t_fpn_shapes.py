_base_ = '_base_/retinanet_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.0,
        out_indices=(1, 2, 3),
    ),
    neck=dict(in_channels=[192, 384, 768], start_level=0),
)
