_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './glnet.py']

model = dict(
    backbone=_base_.glnet_4g, neck=dict(in_channels=[128, 256, 512], start_level=0, num_outs=5)
)
