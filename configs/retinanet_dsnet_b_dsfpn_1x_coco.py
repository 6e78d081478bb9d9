_base_ = './retinanet_dsnet_b_fpn_1x_coco.py'

model = dict(neck=dict(type='DSFPN'))
