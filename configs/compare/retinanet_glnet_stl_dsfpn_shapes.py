_base_ = './retinanet_glnet_stl_fpn_shapes.py'

model = dict(
    neck=dict(type='DSFPN', in_strides=[8, 16, 32], block_norm_cfg=dict(type='GN', num_groups=16))
)
