_base_ = [
    '_base_/mask_rcnn_dsnet_t.py',
    '_base_/coco_instance_ms.py',
    '_base_/adamw.py',
    '_base_/schedule_3x.py',
    '_base_/runtime.py',
]

model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint='dsnet://small_in1k')))
