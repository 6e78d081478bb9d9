# Fine-tune Mask R-CNN on your own classes with masks: change the next three lines. num_classes
# follows from the classes. docs/own_data.md shows how to convert and check a dataset.
_base_ = '../mask_rcnn_dsnet_s_fpn_1x_coco.py'

data_root = 'data/own/'
classes = ('circle', 'square', 'star', 'triangle')  # in the order of the file; one class: ('a',)
weights = 'dsnet://small_in1k'  # of a backbone or a whole detector
classwise = True  # evaluations print the AP of each class

# Paths in data_root, as `dsnet-mm convert-data` writes them: file names include the image folders.
# In COCO's own layout: ann_file='annotations/instances_train2017.json', img='train2017/'.
train_set = dict(ann_file='annotations/train.json', data_prefix=dict(img=''))
val_set = dict(ann_file='annotations/val.json', data_prefix=dict(img=''))

metainfo = dict(classes=classes)
model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint=weights),  # training stops if a tensor is missing
        out_norm_cfg=dict(type='LN'),  # None for weights of a detector without these norms
    ),
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)), mask_head=dict(num_classes=len(classes))
    ),
)
load_from = weights  # neck and head too, as far as their shapes fit

train_dataloader = dict(
    batch_size=4, dataset=dict(data_root=data_root, metainfo=metainfo, **train_set)
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_set['ann_file'], classwise=classwise)
test_evaluator = val_evaluator

# For batches of 4 on one GPU. A few hundred images, or weights of only the backbone, need more
# epochs.
max_epochs = 8
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(optimizer=dict(lr=5e-5))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=10))
