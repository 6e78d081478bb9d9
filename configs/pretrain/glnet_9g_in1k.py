_base_ = './glnet_4g_in1k.py'

model = dict(
    backbone=dict(arch='9g', drop_path_rate=0.3),
    neck=dict(in_channels=768),
    head=dict(in_channels=768),
)
