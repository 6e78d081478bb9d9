"""Draw images with their annotations, decoded as mmdet decodes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from pycocotools import mask as rle

from dsnet_mm.files import written_whole

from .coco_file import CocoFile, Mask
from .finding import Finding

FARTHEST = 1e5  # pixels; pycocotools traverses polygons pixel by pixel


def choose(coco: CocoFile, findings: Sequence[Finding], count: int) -> list[int]:
    """Choose images to draw: up to half of them with problems, the rest evenly from all.

    Args:
        coco: The annotation file.
        findings: The findings of the checks.
        count: The number of images.

    Returns:
        Indices of the images, without repetition.
    """
    faulty = [iter(finding.images) for finding in findings if finding.fails]
    chosen: dict[int, None] = {}
    while faulty and len(chosen) < (count + 1) // 2:
        for images in list(faulty):
            place = next(images, None)
            if place is None:
                faulty.remove(images)
            elif len(chosen) < (count + 1) // 2:
                chosen[place] = None
    with_objects = np.unique(coco.annotations.images[coco.annotations.images >= 0])
    rest = [int(place) for place in with_objects if place not in chosen]
    wanted = min(count - len(chosen), len(rest))
    return [*chosen, *(rest[len(rest) * i // wanted] for i in range(wanted))]


def draw(
    coco: CocoFile,
    folder: str,
    target: str,
    places: Sequence[int],
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> int:
    """Draw images with their boxes, masks and class names, and skip unreadable images.

    Args:
        coco: The annotation file.
        folder: The folder of the images.
        target: The folder of the drawings; created if missing.
        places: Indices of the images.
        progress: Wraps the indices to show the progress.

    Returns:
        The number of drawn images.

    Raises:
        UserError: If a drawing cannot be written.
    """
    visualizer = DetLocalVisualizer()
    names = tuple(name or '?' for name in coco.categories.names)
    visualizer.dataset_meta = dict(classes=names, palette='random')
    drawn = 0
    for number, place in enumerate(progress(places)):
        name = coco.images.names[place]
        image = _read(Path(folder, name)) if name else None
        if image is None:
            continue
        sample = DetDataSample(gt_instances=_instances(coco, place, image.shape[:2]))
        file = Path(target, f'{number:03d}_{Path(name).stem}.jpg')
        with warnings.catch_warnings(), written_whole(file) as draft:
            warnings.simplefilter('ignore', UserWarning)  # mmdet warns of each box at the edge
            visualizer.add_datasample('', image, sample, draw_pred=False, out_file=str(draft))
        drawn += 1
    return drawn


def _read(path: Path) -> np.ndarray | None:
    """Read an RGB image (H, W, 3) with its EXIF orientation applied; None if unreadable."""
    try:
        return mmcv.imfrombytes(path.read_bytes(), channel_order='rgb')
    except Exception:  # OpenCV and mmcv raise many types of errors for broken files
        return None


def _instances(coco: CocoFile, place: int, shape: tuple[int, int]) -> InstanceData:
    """Return the objects of an image, clipped because matplotlib shifts the image otherwise."""
    annotations = coco.annotations
    mine = np.flatnonzero((annotations.images == place) & (annotations.categories >= 0))
    mine = mine[np.isfinite(annotations.boxes[mine]).all(1)]
    left_top, sides = np.split(annotations.boxes[mine], 2, axis=1)
    corners = np.concatenate([left_top, left_top + sides], axis=1)
    corners = corners.clip(0, [*shape[::-1], *shape[::-1]])
    seen = (corners[:, 2:] > corners[:, :2]).all(1)
    mine, corners = mine[seen], corners[seen]
    masks = [_mask(annotations.raw[i], annotations.masks[i], shape) for i in mine]
    fields: dict[str, Any] = dict(
        bboxes=torch.from_numpy(corners).float(),
        labels=torch.from_numpy(annotations.categories[mine]),
    )
    if any(mask.any() for mask in masks):
        fields['masks'] = np.stack(masks)
    return InstanceData(**fields)


def _mask(entry: dict[str, Any], kind: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) of an annotation, empty if it has no mask that can be drawn."""
    height, width = shape
    value = entry.get('segmentation')
    try:
        if kind == Mask.POLYGONS and all(np.abs(polygon).max() < FARTHEST for polygon in value):
            return rle.decode(rle.merge(rle.frPyObjects(value, height, width))).astype(bool)
        if kind == Mask.RLE and value['size'] == [height, width]:
            if isinstance(value['counts'], list):
                value = rle.frPyObjects(value, height, width)
            return rle.decode(value).astype(bool)
    except ValueError:  # a string that is not RLE
        pass
    return np.zeros(shape, dtype=bool)
