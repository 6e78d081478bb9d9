"""Can a detector learn at all? It is trained from scratch on a few images and asked about them.

Where data, heads or losses are broken, it does not know by heart what it saw over a hundred times.
A broken part of the network may go unnoticed (docs/reproduce.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dsnet_mm.data.checking.classes import head_classes
from dsnet_mm.errors import UserError, counted
from dsnet_mm.models import DSBlock
from dsnet_mm.models.norms import set_norms_to_eval

STREAMS = ('local', 'global')
EPOCHS = 8  # at most; each ends with an evaluation
SCALE = (512, 320)  # longer and shorter side of the images in pixels
BATCH = 4
REGIONS = 64  # of each image by which a head of regions learns
RATE = 5e-4  # of learning
REGION_FACTOR = 0.2  # of the rate, for the linear layers before a box head's two outputs
STEADY_EPOCHS = 2  # at the end, in which BatchNorm normalises as the evaluation does
GOALS = {'bbox': 0.9, 'segm': 0.8}  # AP at which a detector knows the images by heart


@HOOKS.register_module()
class CutStreamHook(Hook):
    """Let no gradient through one stream of every DS-Block, as a fault in the wiring would.

    Args:
        stream: 'local' or 'global'.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream

    def before_train(self, runner: Runner) -> None:
        """Detach what the propagation of the stream gives."""
        for block in runner.model.modules():
            if isinstance(block, DSBlock):
                propagation = getattr(block, f'{self.stream}_prop')
                if propagation is not None:
                    propagation.register_forward_hook(lambda module, args, out: out.detach())


@HOOKS.register_module()
class GoalHook(Hook):
    """End the training when each of its goals is reached in one evaluation.

    Args:
        goals: The least value of each metric, by its name.
    """

    def __init__(self, goals: dict[str, float]) -> None:
        self.goals = goals

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Compare the metrics with the goals."""
        if all((metrics or {}).get(name, -1.0) >= goal for name, goal in self.goals.items()):
            runner.train_loop.stop_training = True


@HOOKS.register_module()
class SteadyNormsHook(Hook):
    """Keep BatchNorm in eval mode in the last epochs, so that training normalises as evaluation.

    Args:
        begin: Epochs trained with BatchNorm in train mode before them.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        """Set each BatchNorm to eval mode."""
        if runner.epoch >= self.begin:
            set_norms_to_eval(runner.model)


def pick_images(ann_file: str | Path, count: int) -> dict[str, Any]:
    """Choose the images whose smallest object takes most of the image.

    Args:
        ann_file: Annotations in COCO format.
        count: Number of images.

    Returns:
        The annotations of these images and their categories, in COCO format.

    Raises:
        UserError: If the file cannot be read, an image has no size, or fewer have objects.
    """
    try:
        data = json.loads(Path(ann_file).read_bytes())
        sizes = {image['id']: (image['width'], image['height']) for image in data['images']}
        areas = {number: width * height for number, (width, height) in sizes.items()}
        empty = [number for number, size in sizes.items() if min(size) < 1]
        if empty:
            raise UserError(
                f'{ann_file} has {counted(len(empty), "image")} without width or height, that with '
                f'the id {empty[0]} among them; let tools/check_data.py name them and mend the file'
            )
        smallest: dict[int, float] = {}
        for item in data['annotations']:
            number = item['image_id']
            share = 0.0 if item.get('iscrowd') else item['area'] / areas[number]
            smallest[number] = min(share, smallest.get(number, 1.0))
        chosen = sorted(smallest, key=lambda number: (-smallest[number], number))[:count]
        if len(chosen) < count:
            raise UserError(
                f'{ann_file} has {counted(len(chosen), "image")} with objects, fewer than {count}; '
                'give a smaller --images'
            )
        objects = [item for item in data['annotations'] if item['image_id'] in chosen]
        shown = {item['category_id'] for item in objects}
        return {
            **data,
            'images': [image for image in data['images'] if image['id'] in chosen],
            'annotations': objects,
            'categories': [item for item in data['categories'] if item['id'] in shown],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{ann_file} cannot be read as COCO annotations: {error!r}') from error


def set_up_memorising(
    cfg: Config, ann_file: str | Path, chosen: dict[str, Any], passes: int, cut: str | None = None
) -> None:
    """Have a detector's config train from scratch on a few images and evaluate on them, in place.

    The training ends when AP reaches :data:`GOALS`, or after ``passes``. The heads tell apart the
    categories of these images alone, since no figure depends on the others.

    Args:
        cfg: The config; its training set says where the images lie.
        ann_file: Where ``chosen`` will lie.
        chosen: Annotations of the images, from :func:`pick_images`.
        passes: How often an image is shown in all, at most, counting every image.
        cut: 'local' or 'global' to cut the gradient of that stream.

    Raises:
        UserError: If ``passes`` is too small.
    """
    images = len(chosen['images'])
    times = passes // (EPOCHS * images)
    if times < 1:
        raise UserError(
            f'{counted(passes, "pass", "passes")} over {counted(images, "image")} are too few for '
            f'{EPOCHS} evaluations; give at least {EPOCHS * images}'
        )
    with_mask = 'mask_head' in cfg.model.get('roi_head', {})
    backbone = cfg.model.backbone
    backbone.init_cfg = None
    if 'norm_eval' in backbone or backbone.type == 'DSNet':
        backbone.norm_eval = False
    if 'frozen_stages' in backbone:
        backbone.frozen_stages = -1
    if backbone.get('norm_cfg'):
        backbone.norm_cfg.requires_grad = True
    if backbone.type == 'DSNet':
        backbone.drop_path_rate = 0.0
    rcnn = (cfg.model.get('train_cfg') or {}).get('rcnn')
    if isinstance(rcnn, dict):
        rcnn.sampler.num = REGIONS
    classes = tuple(category['name'] for category in chosen['categories'])
    cfg.merge_from_dict({place: len(classes) for place, _ in head_classes(cfg.model)})

    source = cfg.train_dataloader.dataset
    common = dict(
        type='CocoDataset',
        data_root=source.data_root,
        data_prefix=source.data_prefix,
        ann_file=str(Path(ann_file).absolute()),
        metainfo=dict(classes=classes),
    )
    load = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=SCALE, keep_ratio=True),
    ]
    truth = dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask)
    train_pipeline = [load[0], truth, load[1], dict(type='PackDetInputs')]
    meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    test_pipeline = [*load, truth, dict(type='PackDetInputs', meta_keys=meta_keys)]
    workers = dict(num_workers=1, persistent_workers=True)
    cfg.train_dataloader = dict(
        **workers,
        batch_size=BATCH,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='AspectRatioBatchSampler'),
        dataset=dict(
            type='RepeatDataset', times=times, dataset=dict(**common, pipeline=train_pipeline)
        ),
    )
    cfg.val_dataloader = cfg.test_dataloader = dict(
        **workers,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(**common, test_mode=True, pipeline=test_pipeline),
    )
    cfg.val_evaluator = cfg.test_evaluator = dict(
        type='CocoMetric',
        ann_file=common['ann_file'],
        metric=['bbox', 'segm'] if with_mask else 'bbox',
    )
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=EPOCHS, val_interval=1)
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=RATE, weight_decay=0.0),
        paramwise_cfg=dict(custom_keys=dict(shared_fcs=dict(lr_mult=REGION_FACTOR))),
        clip_grad=dict(max_norm=10, norm_type=2),
    )
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
        dict(
            type='CosineAnnealingLR',
            eta_min_ratio=0.02,
            begin=0,
            end=EPOCHS,
            by_epoch=True,
            convert_to_iter_based=True,
        ),
    ]
    cfg.pop('auto_scale_lr', None)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2  # mmengine deletes before it writes
    cfg.default_hooks.logger.interval = 10
    cfg.randomness = dict(seed=0)
    metrics = ('bbox', 'segm') if with_mask else ('bbox',)
    goals = {f'coco/{metric}_mAP': GOALS[metric] for metric in metrics}
    hooks = [
        dict(type='GoalHook', goals=goals),
        dict(type='SteadyNormsHook', begin=EPOCHS - STEADY_EPOCHS),
    ]
    if cut:
        hooks.append(dict(type='CutStreamHook', stream=cut))
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
