_base_ = '_base_/retinanet_shapes.py'

# Train every layer and the BatchNorm statistics from scratch.
model = dict(backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None))
