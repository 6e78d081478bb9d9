_base_ = './mask_rcnn_glnet_4g_fpn_1x_coco.py'

model = dict(neck=dict(type='DSFPN'))
