_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './glnet.py']

model = dict(backbone=_base_.glnet_4g, neck=dict(in_channels=[64, 128, 256, 512]))
