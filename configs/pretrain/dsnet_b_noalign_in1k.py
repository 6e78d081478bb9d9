_base_ = './dsnet_b_in1k.py'

model = dict(backbone=dict(align=False))
