_base_ = './retinanet_dsnet_s_fpn_1x_coco.py'

model = dict(
    backbone=dict(align=False, init_cfg=dict(checkpoint='checkpoints/dsnet_s_noalign_in1k.pth'))
)
