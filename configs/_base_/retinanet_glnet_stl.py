_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './glnet.py']

model = dict(
    backbone=_base_.glnet_stl, neck=dict(in_channels=[192, 384, 768], start_level=0, num_outs=5)
)
