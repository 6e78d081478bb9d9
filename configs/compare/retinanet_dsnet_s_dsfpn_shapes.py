_base_ = './retinanet_dsnet_s_fpn_shapes.py'

model = dict(neck=dict(type='DSFPN', block_norm_cfg=dict(type='GN', num_groups=16)))
