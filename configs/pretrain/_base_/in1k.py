# What the ImageNet recipes of DS-Net and GLNet share.
_base_ = [
    # AdamW, learning rate 1e-3, weight decay 0.05 except for norms and biases, 300 epochs
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['dsnet_mm'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(out_indices=(3,), norm_eval=False),
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

warmup_epochs = 5
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
