_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/sgd.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=0.01))
