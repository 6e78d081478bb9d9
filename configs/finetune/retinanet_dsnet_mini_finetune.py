# Fine-tune the detector of `make demo` on your own classes: for small datasets, or without a GPU.
# Change the next three lines. docs/own_data.md explains the other settings.
_base_ = '../retinanet_dsnet_t_fpn_1x_coco.py'

data_root = 'data/own/'
classes = ('circle', 'square', 'star', 'triangle')  # in the order of the file; one class: ('a',)
weights = 'work_dirs/demo/epoch_10.pth'  # `make demo` trains these
classwise = True  # evaluations print the AP of each class

train_set = dict(ann_file='annotations/train.json', data_prefix=dict(img=''))
val_set = dict(ann_file='annotations/val.json', data_prefix=dict(img=''))

metainfo = dict(classes=classes)
head_norm = dict(type='GN', num_groups=16)
model = dict(
    # backbone, neck and head as in configs/demo, so that its weights fit
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(32, 64, 128, 256),
            depths=(1, 2, 3, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratio=4,
        ),
        init_cfg=dict(checkpoint=weights),  # training stops if a tensor of the backbone is missing
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=3, norm_cfg=head_norm),
    bbox_head=dict(
        num_classes=len(classes),
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=head_norm,
        # anchors from 24 to 152 pixels
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32]),
    ),
)
load_from = weights  # neck and head too, as far as their shapes fit

image_scale = (256, 256)
_base_.train_pipeline[2].scale = _base_.test_pipeline[1].scale = image_scale
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root, metainfo=metainfo, pipeline=_base_.train_pipeline, **train_set
    ),
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=_base_.test_pipeline, **val_set)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_set['ann_file'], classwise=classwise)
test_evaluator = val_evaluator

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(optimizer=dict(lr=3e-4))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=10))
