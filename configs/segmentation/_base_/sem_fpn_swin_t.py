_base_ = ['./sem_fpn_r50.py', './swin_t.py']

model = dict(backbone=_base_.swin_t, neck=dict(in_channels=[96, 192, 384, 768]))
