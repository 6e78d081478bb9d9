# The recipe of mmdet's DINO: the backbone has a tenth of the learning rate.
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '_base_/dsnet_s.py', '_base_/plugin.py']

model = dict(
    backbone=dict(_base_.dsnet_s, out_indices=(1, 2, 3)), neck=dict(in_channels=[128, 320, 512])
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
