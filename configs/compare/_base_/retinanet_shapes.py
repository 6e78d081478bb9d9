# Common settings of the small comparison: a narrow RetinaNet, trained from scratch on synthetic
# shapes that are drawn in the training size. 112 pixels are half of 224, which suits the windows of
# Swin-T.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../../_base_/adamw.py',
    '../../_base_/schedule_1x.py',
    '../../_base_/runtime.py',
]

data_root = 'data/shapes_compare/'
metainfo = dict(
    classes=('circle', 'square', 'star', 'triangle'),
    palette=[(220, 20, 60), (0, 125, 92), (255, 179, 0), (0, 90, 220)],
)
image_scale = (112, 112)
head_norm = dict(type='GN', num_groups=16)  # the head needs a norm without pretrained weights

model = dict(
    data_preprocessor=dict(pad_size_divisor=1),
    neck=dict(out_channels=96, num_outs=3, norm_cfg=head_norm),
    bbox_head=dict(
        num_classes=4,
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        norm_cfg=head_norm,
        # anchors from 16 to 102 pixels
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32]),
    ),
    test_cfg=dict(max_per_img=50),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=image_scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

max_epochs = 7
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    optimizer=dict(lr=5e-4, weight_decay=0.05, fused=True), clip_grad=dict(max_norm=10, norm_type=2)
)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
