# The demonstration: DS-Net-T and a narrow RetinaNet, trained from scratch on synthetic shapes
# (tools/make_shapes.py), in minutes on a CPU: the DS-Net-T of the small comparison, on larger
# images, in fewer and larger steps.
_base_ = '../compare/retinanet_dsnet_t_fpn_shapes.py'

data_root = 'data/shapes/'
image_scale = (160, 160)  # of pictures of 256x256 pixels: this saves more than half of the time
head_norm = dict(type='GN', num_groups=32)

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(init_cfg=None),  # so that a config which puts weights here is refused in words
    neck=dict(norm_cfg=head_norm),
    bbox_head=dict(
        norm_cfg=head_norm,
        anchor_generator=dict(octave_base_scale=3),  # anchors from 24 to 152 pixels
    ),
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
train_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

max_epochs = 5
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(optimizer=dict(lr=1.4e-3))
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(visualization=dict(score_thr=0.3))
