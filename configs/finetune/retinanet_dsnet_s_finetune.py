# RetinaNet for your own classes: change these three lines. docs/own_data.md tells how to convert
# and check a set; num_classes follows from the classes.
_base_ = '../retinanet_dsnet_s_fpn_1x_coco.py'

data_root = 'data/own/'
classes = ('circle', 'square', 'star', 'triangle')  # in the order of the files; one alone: ('a',)
weights = 'dsnet://small_in1k'  # of the backbone, or of a whole detector

# Where the files lie in data_root: as dsnet-mm convert-data writes them, with the folders of the
# images in the file names. For COCO's own layout: 'instances_train2017.json', img='train2017/'.
train_set = dict(ann_file='annotations/train.json', data_prefix=dict(img=''))
val_set = dict(ann_file='annotations/val.json', data_prefix=dict(img=''))

metainfo = dict(classes=classes)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=weights)),  # complete, or the training stops
    bbox_head=dict(num_classes=len(classes)),
)
load_from = weights  # what fits of neck and head too, if the weights have them

train_dataloader = dict(
    batch_size=4, dataset=dict(data_root=data_root, metainfo=metainfo, **train_set)
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_set['ann_file'])
test_evaluator = val_evaluator

# Made for batches of 4 on one GPU. A few hundred images, or weights of the backbone alone, take
# more epochs.
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
