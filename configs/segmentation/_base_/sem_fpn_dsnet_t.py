_base_ = ['./sem_fpn_r50.py', './dsnet_t.py']

model = dict(backbone=_base_.dsnet_t, neck=dict(in_channels=[64, 128, 320, 512]))
