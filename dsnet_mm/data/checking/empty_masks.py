"""Find masks without a pixel in their image."""

from __future__ import annotations

from itertools import chain

import numpy as np
from pycocotools import mask as mask_utils

from .coco_file import CocoFile, Mask

_BLOCK = 10_000  # masks that are measured together, which bounds the memory


def empty_masks(coco: CocoFile) -> np.ndarray:
    """Return which objects have a mask without a pixel in their image (M,)."""
    empty = np.zeros(len(coco.annotations.raw), dtype=bool)
    sizes = coco.sizes_of_annotated_images
    known = (sizes >= 1).all(1) & (sizes < 1e6).all(1)
    for kind, is_empty in ((Mask.POLYGONS, _empty_polygons), (Mask.RLE, _empty_rle)):
        places = np.flatnonzero(known & (coco.annotations.masks == kind))
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            masks = [coco.annotations.raw[place]['segmentation'] for place in block]
            empty[block] = is_empty(masks, sizes[block].astype(int))
    return empty


def _empty_rle(masks: list[dict], sizes: np.ndarray) -> np.ndarray:
    return np.array(
        [
            not (
                sum(mask['counts'][1::2]) if type(mask['counts']) is list else mask_utils.area(mask)
            )
            for mask in masks
        ],
        dtype=bool,
    )


def _empty_polygons(masks: list[list[list[float]]], sizes: np.ndarray) -> np.ndarray:
    """Rasterize only the polygons that are thin or reach out of their image."""
    polygons = list(chain.from_iterable(masks))
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    points = np.fromiter(chain.from_iterable(polygons), np.float64, lengths.sum()).reshape(-1, 2)
    owner = np.repeat(np.arange(len(masks)), list(map(len, masks)))  # of each polygon
    first = np.cumsum(lengths // 2) - lengths // 2  # point of each polygon
    following = np.arange(1, len(points) + 1)
    following[first + lengths // 2 - 1] = first
    cross = points[:, 0] * points[following, 1] - points[following, 0] * points[:, 1]
    areas = np.bincount(owner, abs(np.add.reduceat(cross, first)) / 2, len(masks))
    low = np.minimum.reduceat(points, first)
    high = np.maximum.reduceat(points, first)
    inside = (low >= 0).all(1) & (high <= sizes[owner]).all(1)
    sure = (np.bincount(owner, ~inside, len(masks)) == 0) & (areas >= 4)
    empty = np.zeros(len(masks), dtype=bool)
    for place in np.flatnonzero(~sure):
        width, height = map(int, sizes[place])
        rle = mask_utils.merge(mask_utils.frPyObjects(masks[place], height, width))
        empty[place] = mask_utils.area(rle) == 0
    return empty
