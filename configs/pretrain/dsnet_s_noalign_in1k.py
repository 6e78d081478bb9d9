_base_ = './dsnet_s_in1k.py'

model = dict(backbone=dict(align=False))
