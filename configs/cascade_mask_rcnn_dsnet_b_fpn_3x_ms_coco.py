_base_ = './cascade_mask_rcnn_dsnet_s_fpn_3x_ms_coco.py'

model = dict(backbone=dict(arch='base', init_cfg=dict(checkpoint='dsnet://base_in1k')))
