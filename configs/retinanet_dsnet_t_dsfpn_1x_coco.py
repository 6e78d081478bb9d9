_base_ = './retinanet_dsnet_t_fpn_1x_coco.py'

model = dict(neck=dict(type='DSFPN'))
