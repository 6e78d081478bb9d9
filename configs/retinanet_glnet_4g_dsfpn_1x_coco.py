_base_ = './retinanet_glnet_4g_fpn_1x_coco.py'

model = dict(neck=dict(type='DSFPN', in_strides=[8, 16, 32]))
