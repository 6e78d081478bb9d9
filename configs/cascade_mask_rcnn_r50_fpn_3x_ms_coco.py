_base_ = [
    '_base_/cascade_mask_rcnn_r50.py',
    '_base_/coco_instance_ms.py',
    '_base_/sgd.py',
    '_base_/schedule_3x.py',
    '_base_/runtime.py',
]
