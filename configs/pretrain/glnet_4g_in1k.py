# Train GLNet-4G on ImageNet-1k with the published recipe: 300 epochs, batch size 2048 (8 GPUs x 256
# images), float16 (pass --amp). docs/glnet.md lists the decisions of this project.
_base_ = [
    # RandAugment m9 std 0.5, random erasing 0.25, test resize 256 -> crop 224, bicubic
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/in1k.py',
]

model = dict(backbone=dict(type='GLNet', arch='4g', drop_path_rate=0.15))

train_dataloader = dict(
    batch_size=256, sampler=dict(type='RepeatAugSampler', shuffle=True), **_base_.loader
)
val_dataloader = _base_.loader
test_dataloader = _base_.loader

optim_wrapper = dict(
    optimizer=dict(lr=2e-3),
    clip_grad=dict(max_norm=5.0),
    # spared: tensors of one dimension and LayerScale factors. slot_scale, which has no dimension,
    # and learned slots are not.
    paramwise_cfg=dict(
        _delete_=True, flat_decay_mult=0.0, custom_keys={'.gamma': dict(decay_mult=0.0)}
    ),
)
warmup_epochs = _base_.warmup_epochs
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,  # mmengine allows no 0
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=warmup_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=2048)

custom_hooks = [
    dict(type='SafeCheckpointHook'),
    dict(type='StopAtNaNHook'),
    # each step keeps 0.9999 of the average; BatchNorm statistics are averaged too
    dict(type='EMAHook', momentum=1e-4, update_buffers=True, priority='ABOVE_NORMAL'),
]
