"""Find classes whose objects are too small for a config."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.models.task_modules import AnchorGenerator
from mmdet.registry import TASK_UTILS
from mmengine.config import Config

from dsnet_mm.data.locate import class_of

from .coco_file import CocoFile
from .finding import Finding, finding
from .sizes import Resize, find_resize

SMALL_SIDE = 16  # pixels; a decision of this project
STEP = 32  # of the suggested image sizes, the largest stride of the backbone


@dataclass(frozen=True)
class _Class:
    """Describe the sizes of the objects of one class after the resize."""

    name: str
    sides: np.ndarray  # shorter sides in pixels (N,)

    def below(self, side: float) -> int:
        return int(np.count_nonzero(self.sides < side))

    @property
    def median(self) -> float:
        return float(np.median(self.sides))


def check_small_classes(coco: CocoFile, cfg: Config) -> list[Finding]:
    """Compare the objects of each class with the smallest anchor of a config."""
    resize = find_resize(cfg)
    if resize is None:
        return []
    found = list(_classes(coco, resize))
    anchor = smallest_anchor(cfg)
    size = 'x'.join(map(str, resize.scales[0]))
    small = [one for one in found if one.median < SMALL_SIDE]
    missed = [one for one in found if one.below(anchor) > len(one.sides) / 2]

    def describe(one: _Class, side: float) -> str:
        factor = side / max(one.median, 1e-3)
        scale = tuple(math.ceil(length * factor / STEP) * STEP for length in resize.scales[0])
        return (
            f'{one.below(side)} of {len(one.sides)} objects of {one.name!r} have a shorter side '
            f'below {side:g} px after the resize to {size} (scale={scale} brings the median object '
            f'to {side:g} px)'
        )

    advice = (
        'such classes often stay at an AP near 0; if memory allows, increase the scale of Resize '
        'in the pipelines'
    )
    return [
        finding(
            f'classes with most objects below the smallest anchor ({anchor:g} px)',
            missed,
            f'{advice}, or use smaller anchors',
            lambda one: describe(one, anchor),
            is_problem=False,
        ),
        finding(
            f'classes whose median object is below {SMALL_SIDE} px',
            small,
            advice,
            lambda one: describe(one, SMALL_SIDE),
            is_problem=False,
        ),
    ]


def smallest_anchor(cfg: Config) -> float:
    """Return the side in pixels of the smallest square anchor of a config, 0 without anchors.

    An anchor of another shape counts as the square of its area.
    """
    areas = []
    for settings in _anchor_settings(cfg.get('model')):
        for anchors in _base_anchors(settings):
            areas.append(float(((anchors[:, 2:] - anchors[:, :2]).prod(1)).min()))
    return round(math.sqrt(min(areas)), 1) if areas else 0.0


def _anchor_settings(settings: Any) -> Iterator[Any]:
    """Yield the settings of each anchor generator in a model."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key == 'anchor_generator' and isinstance(value, dict):
                yield value
            else:
                yield from _anchor_settings(value)
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            yield from _anchor_settings(value)


def _base_anchors(settings: Any) -> list[Any]:
    kind = class_of(settings, TASK_UTILS)
    if not (isinstance(kind, type) and issubclass(kind, AnchorGenerator)):
        return []
    return kind(**{key: value for key, value in settings.items() if key != 'type'}).base_anchors


def _classes(coco: CocoFile, resize: Resize) -> Iterator[_Class]:
    """Yield the classes with objects whose image size is known."""
    entries = coco.annotations
    sizes = coco.sizes_of_annotated_images
    usable = entries.with_box & ~entries.crowds & (entries.categories >= 0) & (sizes >= 1).all(1)
    sides = (entries.boxes[usable, 2:] * resize.factors(sizes[usable])).min(1)
    categories = entries.categories[usable]
    for place, name in enumerate(coco.categories.names):
        if (categories == place).any():
            yield _Class(name or '?', sides[categories == place])
