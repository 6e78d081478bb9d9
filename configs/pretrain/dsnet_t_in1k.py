# Train DS-Net-T on ImageNet-1k with the recipe of the two public implementations: 300 epochs, batch
# size 1024 (8 GPUs x 128 images). docs/pretrain.md lists the decisions of this project.
_base_ = [
    # RandAugment m9 std 0.5, random erasing 0.25, test resize 248 -> crop 224, bicubic
    'mmpretrain::_base_/datasets/imagenet_bs128_poolformer_small_224.py',
    # AdamW, learning rate 1e-3, weight decay 0.05 except for norms and biases, 300 epochs
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['dsnet_mm'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='DSNet',
        arch='tiny',
        out_indices=(3,),
        drop_path_rate=0.1,
        attn_drop_rate=0.1,
        norm_eval=False,
    ),
    neck=dict(type='NormGlobalAveragePooling', in_channels=512),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    # one of the two per batch, with equal probability
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

# mmpretrain's train script adds these settings to every config
loader = dict(pin_memory=True, persistent_workers=True, collate_fn=dict(type='default_collate'))
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader

warmup_epochs = 5
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,  # from 1e-6
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=warmup_epochs),
]

custom_hooks = [
    dict(type='SafeCheckpointHook'),
    dict(type='StopAtNaNHook'),
    # each step keeps 0.99996 of the average; BatchNorm statistics are averaged too
    dict(type='EMAHook', momentum=4e-5, update_buffers=True, priority='ABOVE_NORMAL'),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
