"""Build the part of a model that is exported, and the facts that users of its graph need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmdet.models.dense_heads import RetinaHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmengine.config import Config
from torch import nn

from dsnet_mm.data.checking.config_checks import head_classes
from dsnet_mm.data.drawn_classes import palette_of
from dsnet_mm.data.locate import find_datasets, type_name
from dsnet_mm.engine.building import build_model, initialize
from dsnet_mm.engine.checkpoint import check_fit, read_checkpoint
from dsnet_mm.engine.config import load_config
from dsnet_mm.errors import UserError
from dsnet_mm.version import __version__

from .detector_graphs import OneStageGraph
from .part import Part
from .raw_graphs import DecodedRetinaNet, Maps
from .two_stage_graphs import TwoStageGraph

PARTS = ('backbone', 'neck', 'detector')
TRIED = ('DSNet', 'GLNet', 'ResNet')  # backbones; others may record sizes as constants


def load_part(
    config: str, checkpoint: str | None, what: str, raw: bool = False
) -> tuple[Part, dict[str, str]]:
    """Build the exported part in eval mode, on the CPU.

    Args:
        config: Path of the config.
        checkpoint: Path of its checkpoint, or None for random weights.
        what: One of :data:`PARTS`.
        raw: Whether a detector ends at the boxes of its anchors, before NMS.

    Returns:
        The part, and what users of the graph need to know: preprocessing, weights, classes and
        more.

    Raises:
        UserError: If the config or the checkpoint cannot be read or do not fit each other, or
            the model has no such part that can be exported.
    """
    model, cfg = build_model(config), load_config(config)
    if what == 'neck' and getattr(model, 'neck', None) is None:
        raise UserError(f'the model of {config} has no neck; export its backbone')
    if what == 'detector':
        part = _detector(model, config, raw)
    else:
        part = Maps(model, what == 'neck')
    metainfos = (dataset.get('metainfo') for dataset in find_datasets(cfg, ('test',)))
    own: dict[str, Any] = next(filter(None, metainfos), {})
    meta: dict[str, Any] = {}
    weights = 'random'
    if checkpoint:
        stored = read_checkpoint(checkpoint)
        check_fit(model, stored['state_dict'], checkpoint)
        model.load_state_dict(stored['state_dict'])
        meta = (stored.get('meta') or {}).get('dataset_meta') or {}
        weights = Path(checkpoint).name
    else:
        initialize(model)  # or boxes of a random model may magnify each rounding a thousand times
    classes = meta.get('classes', meta.get('CLASSES', own.get('classes', ())))
    if not classes or isinstance(classes, str):
        count = max((count for _, count in head_classes(cfg.model)), default=0)
        classes = [f'class {i}' for i in range(1, count + 1)]
    palette = palette_of(classes, dict(palette=own.get('palette', meta.get('palette'))))
    facts = dict(
        dsnet_mm=__version__,
        format=part.format,
        preprocessing=json.dumps(_preprocessing(cfg)),
        weights=weights,
        classes=json.dumps(list(classes)),
        palette=json.dumps(palette),
        **part.facts,
    )
    return part.eval(), facts


def is_tried(part: Part) -> bool:
    """Return whether graphs with this backbone are known to accept any image size."""
    return type(part.backbone).__name__ in TRIED


def _detector(model: nn.Module, config: str, raw: bool) -> Part:
    name = type(model).__name__
    if raw:
        if _is_retinanet(model):
            return DecodedRetinaNet(model)
        raise UserError(
            f'{config} is a {name}, but --raw exports only a RetinaNet with sigmoid scores; '
            'export without --raw, or the feature maps with --what neck'
        )
    for kind in (OneStageGraph, TwoStageGraph):
        if kind.accepts(model):
            return kind(model)
    raise UserError(
        f'{config} is a {name}, but only one-stage detectors with the postprocessing of RetinaNet, '
        'Faster R-CNN, Mask R-CNN and Cascade R-CNN can be exported with their heads; export the '
        'feature maps with --what neck and run the head in PyTorch'
    )


def _is_retinanet(model: nn.Module) -> bool:
    head = getattr(model, 'bbox_head', None)
    return (
        isinstance(head, RetinaHead)
        and isinstance(head.bbox_coder, DeltaXYWHBBoxCoder)
        and head.use_sigmoid_cls
    )


def _preprocessing(cfg: Config) -> dict[str, Any]:
    """Return the normalization, and the size (width and height in pixels) of the test pipeline."""
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    names = ('mean', 'std', 'bgr_to_rgb', 'to_rgb', 'pad_size_divisor')
    found = {name: settings[name] for name in names if name in settings}
    dataset: dict[str, Any] = next(find_datasets(cfg, ('test', 'val')), {})
    for step in dataset.get('pipeline') or []:
        if type_name(step) == 'Resize' and 'scale' in step:
            found |= {name: step[name] for name in ('scale', 'keep_ratio') if name in step}
    return found
