_base_ = ['./upernet_r50.py', './swin_t.py']

model = dict(
    backbone=_base_.swin_t,
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
