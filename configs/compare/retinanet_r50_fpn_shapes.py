_base_ = '_base_/retinanet_shapes.py'

# from scratch: every layer and the statistics of BatchNorm learn
model = dict(backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None))
