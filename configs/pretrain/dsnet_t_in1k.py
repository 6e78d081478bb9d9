# Train DS-Net-T on ImageNet-1k with the recipe of the two public implementations: 300 epochs, batch
# size 1024 (8 GPUs x 128 images). docs/pretrain.md lists the decisions of this project.
_base_ = [
    # RandAugment m9 std 0.5, random erasing 0.25, test resize 248 -> crop 224, bicubic
    'mmpretrain::_base_/datasets/imagenet_bs128_poolformer_small_224.py',
    '_base_/in1k.py',
]

model = dict(backbone=dict(type='DSNet', arch='tiny', drop_path_rate=0.1, attn_drop_rate=0.1))

train_dataloader = _base_.loader
val_dataloader = _base_.loader
test_dataloader = _base_.loader

warmup_epochs = _base_.warmup_epochs
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
