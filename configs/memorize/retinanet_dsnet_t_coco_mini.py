# Train a detector from scratch on eight images until it knows them by heart, and evaluate it on the
# same images. Training ends when box AP reaches 0.9. A detector with broken data, heads or losses
# does not get there. The AP says nothing about other images.
_base_ = '../retinanet_dsnet_t_fpn_1x_coco.py'

# Of the first 334 images of COCO train2017, the eight whose smallest object is largest, by their
# ids. Choose others for another dataset: images with small objects take longer to learn.
images = [3, 4, 44, 92, 122, 130, 192, 195]
ann_file = 'annotations/instances_train2017.json'
prefix = dict(img='train2017/')
scale = (512, 320)

model = dict(
    backbone=dict(init_cfg=None, norm_eval=False, drop_path_rate=0.0),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        # instances: the truth, from which the metric computes AP
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
dataset = dict(
    type='CocoDataset',
    data_root='data/coco/',
    ann_file=ann_file,
    data_prefix=prefix,
    indices=images,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=15,
        dataset=dict(**dataset, pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(_delete_=True, **dataset, pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
# without ann_file, the metric uses the instances of these images instead of the whole file
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator

max_epochs = 8
steady_epochs = 2
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.02,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2), logger=dict(interval=10))
custom_hooks = [
    dict(type='SafeCheckpointHook'),
    dict(type='StopAtNaNHook'),
    # the last epochs normalize as the evaluation does
    dict(type='SteadyNormsHook', begin=max_epochs - steady_epochs),
    dict(
        type='EarlyStoppingHook',
        monitor='coco/bbox_mAP',
        rule='greater',
        stopping_threshold=0.9,
        patience=max_epochs,
    ),
]
randomness = dict(seed=0)
