# RetinaNet for your own classes, with a narrow head: for small sets, or without a GPU. Change the
# three lines; docs/own_data.md tells the rest.
_base_ = '../retinanet_dsnet_t_fpn_1x_coco.py'

data_root = 'data/own/'
classes = ('circle', 'square', 'star', 'triangle')  # in the order of the files; one alone: ('a',)
weights = 'work_dirs/demo/epoch_5.pth'  # what `make demo` trains, or checkpoints/dsnet_t_in1k.pth

train_set = dict(ann_file='annotations/train.json', data_prefix=dict(img=''))
val_set = dict(ann_file='annotations/val.json', data_prefix=dict(img=''))

metainfo = dict(classes=classes)
head_norm = dict(type='GN', num_groups=32)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=weights)),  # complete, or the training stops
    # as in configs/demo, so that its weights fit
    neck=dict(out_channels=96, num_outs=3, norm_cfg=head_norm),
    bbox_head=dict(
        num_classes=len(classes),
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        norm_cfg=head_norm,
        # anchors from 24 to 152 pixels
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32]),
    ),
)
load_from = weights  # what fits of neck and head too, if the weights have them

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
val_evaluator = dict(ann_file=data_root + val_set['ann_file'])
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
