# Config of `make demo`: a DS-Net with half the width of DS-Net-T and a narrow RetinaNet, trained
# from scratch on synthetic shapes in minutes on a CPU. Neck and head have 64 channels instead of 96
# as in the small comparison.
_base_ = '../compare/retinanet_dsnet_t_fpn_shapes.py'

data_root = 'data/shapes/'
image_scale = (160, 160)  # `dsnet-mm demo` draws the images in this size
head_norm = dict(type='GN', num_groups=16)

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(32, 64, 128, 256),
            depths=(1, 2, 3, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratio=4,
        ),
        init_cfg=None,  # a config that sets weights here gets an explaining error
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=head_norm),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        norm_cfg=head_norm,
        anchor_generator=dict(octave_base_scale=3),  # anchors from 24 to 152 pixels
        reg_decoded_bbox=True,  # the loss compares boxes instead of offsets from anchors
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
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

max_epochs = 10
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
optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(visualization=dict(score_thr=0.5))
