_base_ = './cascade_mask_rcnn_dsnet_s_fpn_3x_ms_coco.py'

model = dict(backbone=dict(arch='tiny', init_cfg=dict(checkpoint='dsnet://tiny_in1k')))
