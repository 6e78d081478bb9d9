_base_ = './mask_rcnn_dsnet_b_fpn_1x_coco.py'

model = dict(
    backbone=dict(align=False, init_cfg=dict(checkpoint='checkpoints/dsnet_b_noalign_in1k.pth'))
)
