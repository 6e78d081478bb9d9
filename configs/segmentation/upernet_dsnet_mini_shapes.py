# Train a small DS-Net UPerNet on synthetic shapes in minutes on a CPU, to try the procedure but not
# the recipe. `dsnet-mm shapes --task segmentation` draws the dataset. Run `dsnet-mm demo` first,
# because the backbone starts from its checkpoint, except for the norms of the outputs.
_base_ = ['_base_/upernet_dsnet_t.py', '_base_/runtime.py']

data_root = 'data/shapes_seg/'
metainfo = dict(
    classes=('background', 'circle', 'square', 'star', 'triangle'),
    palette=[(90, 90, 90), (220, 20, 60), (0, 125, 92), (255, 179, 0), (0, 90, 220)],
)
num_classes = len(metainfo['classes'])
head_norm = dict(type='BN')

data_preprocessor = dict(size=(96, 96))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(32, 64, 128, 256),
            depths=(1, 2, 3, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratio=4,
        ),
        drop_path_rate=0.0,
        norm_eval=False,
        out_norm_cfg=dict(type='LN'),
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='work_dirs/demo/epoch_10.pth',
            prefix='backbone.',
        ),
    ),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        channels=64,
        dropout_ratio=0.0,
        num_classes=num_classes,
        norm_cfg=head_norm,
    ),
    auxiliary_head=dict(
        in_channels=128,
        channels=32,
        dropout_ratio=0.0,
        num_classes=num_classes,
        norm_cfg=head_norm,
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# The background is a class of its own, number 0.
dataset = dict(
    type='BaseSegDataset', data_root=data_root, metainfo=metainfo, reduce_zero_label=False
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader

max_iters = 1000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=250)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=250))
randomness = dict(seed=0)
