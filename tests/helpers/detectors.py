"""Small detectors that train and predict fast."""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from helpers.datasets import CLASSES
from helpers.paths import ROOT

TINY_DETECTOR = f"""
_base_ = {str(ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py')!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=(8, 16, 32, 32), depths=(1, 1, 1, 1),
                  num_heads=(1, 1, 1, 1), mlp_ratio=1)),
    neck=dict(in_channels=[8, 16, 32, 32], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
)
loader = dict(num_workers=0, persistent_workers=False)
"""
"""The start of a config whose epochs take a fraction of a second."""

FEW_REGIONS = {
    'model.train_cfg.rpn_proposal.max_per_img': 50,
    'model.train_cfg.rcnn.sampler.num': 32,
    'model.test_cfg.rpn.max_per_img': 50,
    'model.test_cfg.rcnn.score_thr': 0.0,
    'model.test_cfg.rcnn.max_per_img': 10,
}
"""Settings with which a Mask R-CNN of mmdet trains and evaluates fast on a CPU."""


def few_regions(cfg: Config) -> dict[str, object]:
    """Return :data:`FEW_REGIONS` for a detector with one stage of boxes or a cascade of them."""
    settings: dict[str, object] = dict(FEW_REGIONS)
    if isinstance(cfg.model.train_cfg.rcnn, list):
        number = settings.pop('model.train_cfg.rcnn.sampler.num')
        stages = range(len(cfg.model.train_cfg.rcnn))
        settings |= {f'model.train_cfg.rcnn.{i}.sampler.num': number for i in stages}
    return settings


TINY_BACKBONES = {
    'dsnet': dict(
        embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), mlp_ratio=2
    ),
    'glnet': dict(
        layout='hybrid',
        embed_dims=(32, 32, 64, 64),
        depths=(1, 1, 2, 1),
        mlp_ratio=2,
        learned_slots=False,
        layer_scale=None,
    ),
}
"""Architectures by a part of a config's name."""


def make_detector(folder: Path, base: str, test_cfg: str) -> tuple[Path, Path]:
    """Write config and checkpoint of a detector with random weights that keeps its best boxes."""
    config = folder / f'{base}.py'
    arch = next(arch for name, arch in TINY_BACKBONES.items() if name in base)
    channels = [*arch['embed_dims']][1 if 'retinanet_glnet' in base else 0 :]
    heads = 'bbox_head=dict(num_classes=4)'
    if 'mask_rcnn' in base:
        heads = f'roi_head=dict({heads}, mask_head=dict(num_classes=4))'
    config.write_text(f"""
_base_ = {str(ROOT / 'configs' / f'{base}.py')!r}
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(
    backbone=dict(arch={dict(arch, _delete_=True)!r}, init_cfg=None),
    neck=dict(in_channels={channels!r}),
    {heads},
    test_cfg={test_cfg},
)
""")
    register_all_modules()
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    checkpoint = folder / f'{base}.pth'
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint
