"""Measure the distribution of objects over classes, images and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.config import Config

from dsnet_mm.data.locate import find_datasets, type_name
from dsnet_mm.data.shapes import SIZE_BINS, SIZE_BOUNDS

from .coco_file import CocoFile

SHARES = (0, 5, 25, 50, 75, 95, 100)
"""Reported percentiles."""


@dataclass(frozen=True)
class Resize:
    """Describe how a config resizes its training images."""

    scales: tuple[tuple[int, int], ...]  # widths and heights; only the first pair is used here
    keep_ratio: bool = True  # the image keeps its aspect ratio and fits into the scale

    def factors(self, sizes: np.ndarray) -> np.ndarray:
        """Return the factors of width and height (N, 2) for images of ``sizes`` (N, 2)."""
        scale = np.array(self.scales[0], dtype=float)
        if not self.keep_ratio:
            return scale / sizes
        factors = np.minimum(scale.max() / sizes.max(1), scale.min() / sizes.min(1))
        return np.repeat(factors[:, None], 2, axis=1)


@dataclass(frozen=True)
class Distribution:
    """Hold the numbers of objects of C categories, and percentiles :data:`SHARES` of sizes.

    ``sides`` has shorter sides, longer sides and square roots of areas in pixels, in the original
    images and in the images that a config resizes.
    """

    classes: tuple[str, ...]
    objects: np.ndarray  # small, medium and large objects by COCO's areas, without crowds (C, 3)
    crowds: np.ndarray  # (C,)
    images: np.ndarray  # images with objects or crowds of the class (C,)
    per_image: np.ndarray  # percentiles of the objects per image
    sides: dict[str, dict[str, np.ndarray]]


def find_resize(cfg: Config) -> Resize | None:
    """Return the resize of the training images of a config, or None if it is unknown."""
    for dataset in find_datasets(cfg, ('train',)):
        for transform in dataset.get('pipeline') or []:
            kind = type_name(transform)
            scale = transform.get('scale') or transform.get('scales')
            if not kind.endswith('Resize') or not isinstance(scale, (list, tuple)):
                continue
            scales = [scale] if isinstance(scale[0], (int, float)) else scale
            settings = transform.get('resize_cfg') or transform
            keep = kind.endswith('ResizeShortestEdge') or settings.get('keep_ratio', True)
            if kind == 'Resize':
                keep = settings.get('keep_ratio', False)  # as in mmcv
            if all(len(sides) == 2 for sides in scales):
                return Resize(tuple(tuple(sides) for sides in scales), keep)
    return None


def measure(coco: CocoFile, resize: Resize | None = None) -> Distribution:
    """Count the objects of a dataset by class, size and image."""
    annotations = coco.annotations
    number = len(coco.categories.ids)
    usable = annotations.with_box & (annotations.categories >= 0) & (annotations.images >= 0)
    objects = usable & ~annotations.crowds
    widths_heights = np.clip(annotations.boxes, 0, None)[:, 2:]
    areas = np.where(annotations.areas > 0, annotations.areas, widths_heights.prod(1))
    by_class = np.zeros((number, len(SIZE_BINS)), dtype=np.int64)
    bins = np.searchsorted(SIZE_BOUNDS, areas[objects], side='right')
    np.add.at(by_class, (annotations.categories[objects], bins), 1)
    pairs = np.stack([annotations.categories[usable], annotations.images[usable]], axis=1)
    per_image = np.bincount(annotations.images[objects], minlength=len(coco.images.ids))
    sides = widths_heights[objects]
    sizes = coco.images.sizes[annotations.images[objects]]
    by_resize = {'in the files': _percentiles_of_sides(sides, areas[objects])}
    if resize:
        known = (sizes >= 1).all(1)
        factors = resize.factors(sizes[known])
        width, height = resize.scales[0]
        by_resize[f'resized to {width}x{height}'] = _percentiles_of_sides(
            sides[known] * factors, areas[objects][known] * factors.prod(1)
        )
    return Distribution(
        tuple(name or '?' for name in coco.categories.names),
        by_class,
        np.bincount(annotations.categories[usable & annotations.crowds], minlength=number),
        np.bincount(np.unique(pairs, axis=0)[:, 0], minlength=number),
        _percentiles(per_image),
        by_resize,
    )


def _percentiles_of_sides(sides: np.ndarray, areas: np.ndarray) -> dict[str, np.ndarray]:
    return {
        'shorter side': _percentiles(sides.min(1)),
        'longer side': _percentiles(sides.max(1)),
        'root of area': _percentiles(np.sqrt(areas)),
    }


def _percentiles(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the percentiles :data:`SHARES` (7,), NaN without values."""
    if not len(values):
        return np.full(len(SHARES), np.nan)
    return np.percentile(values, SHARES)
