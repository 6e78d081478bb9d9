_base_ = './retinanet_dsnet_t_fpn_shapes.py'

model = dict(backbone=dict(arch='small'))
