_base_ = './upernet_dsnet_t_160k_ade20k.py'

model = dict(backbone=dict(arch='base', init_cfg=dict(checkpoint='dsnet://base_in1k')))
