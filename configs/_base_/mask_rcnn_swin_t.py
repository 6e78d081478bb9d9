_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './swin_t.py']

model = dict(backbone=_base_.swin_t, neck=dict(in_channels=[96, 192, 384, 768]))
