_base_ = './dsnet_t_in1k.py'

model = dict(backbone=dict(arch='base'))
