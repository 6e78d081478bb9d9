_base_ = './glnet_4g_in1k.py'

model = dict(
    backbone=dict(arch='16g', drop_path_rate=0.4),
    neck=dict(in_channels=1024),
    head=dict(in_channels=1024),
)
