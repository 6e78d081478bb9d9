_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './glnet.py']

model = dict(backbone=_base_.glnet_stl, neck=dict(in_channels=[96, 192, 384, 768]))
