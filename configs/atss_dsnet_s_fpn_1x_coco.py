_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', '_base_/dsnet_s.py', '_base_/plugin.py']

# ATSS does not use the finest map, whose norm would get no gradient.
model = dict(
    backbone=dict(_base_.dsnet_s, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 320, 512], start_level=0),
)

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
