_base_ = [
    '_base_/retinanet_dsnet_t.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/adamw.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
