_base_ = ['./upernet_r50.py', './dsnet_t.py']

model = dict(
    backbone=_base_.dsnet_t,
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
