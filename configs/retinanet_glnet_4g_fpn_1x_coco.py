_base_ = [
    '_base_/retinanet_glnet_4g.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/adamw.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]

# RetinaNet does not use the finest map, and GLNet has a norm for each output map.
model = dict(backbone=dict(out_indices=(1, 2, 3)))
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
