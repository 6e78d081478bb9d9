# Train a small DS-Net from scratch on synthetic shapes in minutes on a CPU, to try the procedure
# but not the recipe. `dsnet-mm shapes --task classification` draws the dataset.
_base_ = './dsnet_t_in1k.py'

classes = ('circle', 'square', 'star', 'triangle')
data_preprocessor = dict(num_classes=len(classes))
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(32, 64, 96, 128),
            depths=(1, 1, 2, 1),
            num_heads=(1, 1, 2, 2),
            mlp_ratio=2,
        ),
        drop_path_rate=0.0,
        attn_drop_rate=0.0,
    ),
    neck=dict(in_channels=128),
    head=dict(in_channels=128, num_classes=len(classes)),
    train_cfg=None,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root='data/shapes_cls/', metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(_delete_=True, data_prefix='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(_delete_=True, data_prefix='val', pipeline=test_pipeline, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=25),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(clip_grad=dict(max_norm=5, norm_type=2))
auto_scale_lr = dict(base_batch_size=16)
# without averaged weights, which need more steps
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='StopAtNaNHook')]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
