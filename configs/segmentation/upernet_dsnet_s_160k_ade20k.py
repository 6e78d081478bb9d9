_base_ = './upernet_dsnet_t_160k_ade20k.py'

model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint='dsnet://small_in1k')))
