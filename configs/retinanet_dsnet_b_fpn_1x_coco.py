_base_ = './retinanet_dsnet_t_fpn_1x_coco.py'

model = dict(backbone=dict(arch='base', init_cfg=dict(checkpoint='dsnet://base_in1k')))
