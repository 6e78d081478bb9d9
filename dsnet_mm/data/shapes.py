"""Draw a small synthetic detection dataset in the layout of COCO 2017.

Colored shapes of several classes and sizes overlap each other on textured backgrounds. Mask, box
and area of an object describe only its visible pixels.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from .shapes_drawing import (
    SHAPES,
    coverage,
    draw_background,
    encode_jpeg,
    finish,
    paint,
    random_outline,
)
from .shapes_folder import SPLITS, Counts, Progress, ShapesSet

METAINFO: dict[str, Any] = dict(
    classes=tuple(SHAPES), palette=[(220, 20, 60), (0, 125, 92), (255, 179, 0), (0, 90, 220)]
)
"""The ``metainfo`` of mmdet's ``CocoDataset`` and mmpretrain's ``CustomDataset``."""

SIZE_BINS = ('small', 'medium', 'large')
SIZE_BOUNDS = (32**2, 96**2)
"""Areas in pixels between COCO's small, medium and large objects."""

MIN_VISIBLE = 0.85
"""Minimum fraction of an object that other objects and the border leave visible."""

_MAX_OBJECTS = 8
_EMPTY_EVERY = 20  # one in 20 images has no object
_TRIES = 20  # positions that are tried for an object before it is dropped
_MIN_PIECE = 10  # pixels; smaller visible pieces are not annotated
_VAL_IDS_FROM = 1_000_000  # both splits have distinct ids, as in COCO


def size_bin(area: float) -> str:
    """Return the COCO size of an object of ``area`` pixels: small, medium or large."""
    return SIZE_BINS[bisect(SIZE_BOUNDS, area)]


@dataclass(frozen=True)
class ShapesDetection(ShapesSet):
    """Draw a synthetic detection dataset in the layout of COCO 2017.

    An image shows 0 to 8 objects. The square roots of their areas are log-uniform between
    20 pixels and 0.45 of the image side. :class:`ShapesSet` describes the options.
    """

    train: int = 400
    val: int = 100
    size: int = 256
    seed: int = 0

    task: ClassVar[str] = 'detection'
    stream: ClassVar[int] = 0
    entries: ClassVar[tuple[str, ...]] = ('train2017', 'val2017', 'annotations')
    record: ClassVar[str] = 'annotations/instances_train2017.json'

    def files(self) -> list[str]:
        """Return every file of the dataset, relative to its root."""
        images = [f'{split}2017/{self._file_name(split, i)}' for split, i in self._images()]
        return [*map(_ann_file, SPLITS), *images]

    def count(self, root: str | Path) -> Counts:
        """Count the objects of the dataset in ``root``: by split, then by (class, COCO size)."""
        counts = {}
        for split in SPLITS:
            annotations = json.loads(Path(root, _ann_file(split)).read_text())['annotations']
            counts[split] = Counter(
                (METAINFO['classes'][item['category_id'] - 1], size_bin(item['area']))
                for item in annotations
            )
        return counts

    def sample(self, split: str, index: int) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
        """Draw one image.

        Args:
            split: ``'train'`` or ``'val'``.
            index: Index of the image in its split, from 0.

        Returns:
            The uint8 BGR image (size, size, 3); the class of each object; the boolean mask
            (size, size) of the visible pixels of each object.
        """
        image, labels, owner = draw_scene(self._random(split, index), self.size, index)
        masks = [_without_crumbs(owner == number) for number in range(len(labels))]
        return image, labels, masks

    def _draw(self, folder: Path, progress: Progress) -> None:
        for split in SPLITS:
            (folder / f'{split}2017').mkdir()
        contents: dict[str, dict[str, list]] = {
            split: dict(images=[], annotations=[]) for split in SPLITS
        }
        for split, index in progress(self._images()):
            image, labels, masks = self.sample(split, index)
            name = self._file_name(split, index)
            (folder / f'{split}2017' / name).write_bytes(encode_jpeg(image))
            images, annotations = contents[split]['images'], contents[split]['annotations']
            images.append(
                dict(id=_image_id(split, index), file_name=name, width=self.size, height=self.size)
            )
            annotations += [
                annotation(mask, label, _image_id(split, index), len(annotations) + offset)
                for offset, (label, mask) in enumerate(zip(labels, masks, strict=True), 1)
            ]
        (folder / 'annotations').mkdir()
        categories = [
            dict(id=number, name=name, supercategory='shape')
            for number, name in enumerate(METAINFO['classes'], 1)
        ]
        for split in SPLITS:
            content = dict(info=self.info, licenses=[], **contents[split], categories=categories)
            (folder / _ann_file(split)).write_text(json.dumps(content))

    @staticmethod
    def _file_name(split: str, index: int) -> str:
        return f'{_image_id(split, index):012d}.jpg'


def draw_scene(
    rng: np.random.Generator, size: int, index: int
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Draw image ``index`` of a split, with 0 to 8 objects that overlap each other.

    Returns:
        The uint8 BGR image (size, size, 3); the class of each object; a map (size, size) with the
        index of the visible object in each pixel, -1 for the background.
    """
    image = draw_background(rng, size)
    if index % _EMPTY_EVERY == _EMPTY_EVERY - 1:
        return finish(rng, image), [], np.full((size, size), -1)
    labels, covers, owner = _place_objects(rng, size)
    for cover in covers:
        paint(rng, image, cover)
    return finish(rng, image), labels, owner


def annotation(mask: np.ndarray, label: int, image_id: int, number: int) -> dict[str, Any]:
    """Convert the boolean ``mask`` (H, W) of an object of class ``label`` to COCO format."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return dict(
        id=number,
        image_id=image_id,
        category_id=label + 1,
        iscrowd=0,
        segmentation=mask_to_polygons(mask),
        bbox=[x, y, width, height],
        area=int(mask.sum()),
    )


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Outline the boolean ``mask`` (H, W) with polygons along the edges of its pixels.

    Each connected piece becomes a polygon ``[x1, y1, x2, y2, ...]`` in pixels, accurate to about
    half a pixel. COCO polygons cannot have holes, so a piece with a hole is cut through the hole.
    """
    height, width = mask.shape
    # The lattice has a node for each corner, edge and center of a pixel. Its contours follow the
    # outer edges of the pixels, whereas contours of the mask connect pixel centers.
    lattice = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    for dy in range(3):
        for dx in range(3):
            lattice[dy : dy + 2 * height : 2, dx : dx + 2 * width : 2] |= mask
    contours, hierarchy = cv2.findContours(lattice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0, :, 3] if contours else ()
    for contour, parent in zip(contours, parents, strict=True):
        if parent >= 0:  # the contour of a hole
            left, _, across, _ = cv2.boundingRect(contour)
            in_left_part = np.arange(width) < (left + across // 2) // 2
            return mask_to_polygons(mask & in_left_part) + mask_to_polygons(mask & ~in_left_part)
    polygons = []
    for contour in contours:
        smooth = cv2.approxPolyDP(contour, 1.0, True)
        polygons.append(((smooth if len(smooth) > 2 else contour).reshape(-1) / 2).tolist())
    return polygons


def _place_objects(
    rng: np.random.Generator, size: int
) -> tuple[list[int], list[np.ndarray], np.ndarray]:
    """Place objects from back to front, and keep each at least :data:`MIN_VISIBLE` visible.

    Returns:
        The class and the coverage of each object, and a map (size, size) with the index of the
        visible object in each pixel, -1 for the background.
    """
    names = METAINFO['classes']
    smallest, largest = min(20.0, size / 4), 0.45 * size
    labels: list[int] = []
    covers: list[np.ndarray] = []
    full_areas = np.zeros(0)
    owner = np.full((size, size), -1)
    for _ in range(rng.integers(1, _MAX_OBJECTS + 1)):
        label = int(rng.integers(len(names)))
        side = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
        for _ in range(_TRIES):
            center = rng.uniform(0.25 * side, size - 0.25 * side, 2)
            cover = coverage(random_outline(rng, names[label], side, center), size)
            trial = np.where(cover >= 128, len(labels), owner)
            seen = np.bincount(trial[trial >= 0], minlength=len(labels) + 1)
            if (seen >= MIN_VISIBLE * np.append(full_areas, side**2)).all():
                labels.append(label)
                covers.append(cover)
                full_areas, owner = np.append(full_areas, side**2), trial
                break
    return labels, covers, owner


def _without_crumbs(mask: np.ndarray) -> np.ndarray:
    """Drop pieces of a boolean mask that are too small to see, but never the largest one."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count <= 2 or areas.min() >= _MIN_PIECE:
        return mask
    kept = 1 + np.flatnonzero((areas >= _MIN_PIECE) | (areas == areas.max()))
    return np.isin(pieces, kept)


def _ann_file(split: str) -> str:
    return f'annotations/instances_{split}2017.json'


def _image_id(split: str, index: int) -> int:
    return index + 1 + (_VAL_IDS_FROM if split == 'val' else 0)
