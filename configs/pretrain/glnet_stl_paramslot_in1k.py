_base_ = './glnet_4g_in1k.py'

model = dict(
    backbone=dict(arch='stl_paramslot', drop_path_rate=0.1),
    neck=dict(in_channels=768),
    head=dict(in_channels=768),
)
