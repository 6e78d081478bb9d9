_base_ = './retinanet_dsnet_t_fpn_shapes.py'

model = dict(backbone=dict(global_ratio=0.0))
