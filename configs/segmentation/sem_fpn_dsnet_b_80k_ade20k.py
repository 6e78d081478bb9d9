_base_ = './sem_fpn_dsnet_t_80k_ade20k.py'

model = dict(backbone=dict(arch='base', init_cfg=dict(checkpoint='dsnet://base_in1k')))
