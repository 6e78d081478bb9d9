# The recipe of mmdet's Mask2Former for instances: large-scale jitter, 50 epochs, and a tenth of the
# learning rate for the backbone, whose norms have no weight decay, as in mmdet's Swin configs.
_base_ = [
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    '_base_/dsnet_s.py',
    '_base_/plugin.py',
]

model = dict(backbone=_base_.dsnet_s, panoptic_head=dict(in_channels=[64, 128, 320, 512]))

norm = dict(lr_mult=0.1, decay_mult=0.0)
norms = ('norm1', 'norm2', 'local_prop.norm', 'global_prop.norm', 'alignment.norm')
blocks = [
    f'backbone.stages.{i}.blocks.{j}' for i, depth in enumerate((3, 4, 8, 3)) for j in range(depth)
]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'backbone.out_norms': norm,
            **{f'{block}.{name}': norm for block in blocks for name in norms},
        }
    )
)

# mmdet's config inherits the folder of panoptic maps, which it does not read.
train_dataloader = dict(dataset=dict(data_prefix=dict(_delete_=True, img='train2017/')))
val_dataloader = dict(dataset=dict(data_prefix=dict(_delete_=True, img='val2017/')))
test_dataloader = val_dataloader
