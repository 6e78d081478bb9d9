"""Draw images with their annotations, decoded as mmdet decodes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from pycocotools import mask as rle

from dsnet_mm.data.drawn_classes import palette_of, show_classes
from dsnet_mm.data.pictures import read_image
from dsnet_mm.errors import UserError
from dsnet_mm.files import written_whole

from .coco_file import CocoFile, Mask
from .finding import Finding

FARTHEST = 1e5  # pixels; pycocotools traverses polygons pixel by pixel


def choose(coco: CocoFile, findings: Sequence[Finding], count: int) -> list[int]:
    """Return indices of ``count`` images: up to half have problems, the rest come from all."""
    faulty = zip_longest(*(finding.images for finding in findings if finding.fails))
    places = dict.fromkeys(place for images in faulty for place in images if place is not None)
    named = [place for place in places if coco.images.names[place]]
    chosen = named[: (count + 1) // 2]
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
    metainfo: Mapping[str, Any] | None = None,
) -> int:
    """Draw images with their boxes, masks and class names into the folder ``target``.

    With the ``metainfo`` of a config, each class has the color that pictures of its detector use.

    Returns:
        The number of drawn images; images that cannot be read are skipped.

    Raises:
        UserError: If a drawing cannot be written.
    """
    visualizer = DetLocalVisualizer()
    names = [name or '?' for name in coco.categories.names]
    show_classes(visualizer, dict(classes=names, palette=_colors(names, metainfo or {})))
    drawn = 0
    for number, place in enumerate(progress(places)):
        name = coco.images.names[place]
        if name is None:
            continue
        try:
            image = mmcv.bgr2rgb(read_image(Path(folder, name)))
        except UserError:
            continue
        sample = DetDataSample(gt_instances=_instances(coco, place, image.shape[:2]))
        file = Path(target, f'{number:03d}_{Path(name).stem}.jpg')
        with warnings.catch_warnings(), written_whole(file) as draft:
            warnings.simplefilter('ignore', UserWarning)  # mmdet warns of each box at the edge
            visualizer.add_datasample('', image, sample, draw_pred=False, out_file=str(draft))
        drawn += 1
    return drawn


def _colors(names: Sequence[str], metainfo: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """Return the colors of the categories of a file by the classes of a config."""
    classes: list[str] = list(metainfo.get('classes') or names)
    colors = dict(zip(classes, palette_of(classes, metainfo), strict=True))
    others = [name for name in names if name not in colors]
    rest = palette_of([*classes, *others], {})[len(classes) :]
    colors.update(zip(others, rest, strict=True))
    return [colors[name] for name in names]


def _instances(coco: CocoFile, place: int, shape: tuple[int, int]) -> InstanceData:
    """Return the objects of an image, clipped because matplotlib shifts the image otherwise."""
    annotations = coco.annotations
    usable = annotations.with_box & (annotations.categories >= 0)
    mine = np.flatnonzero((annotations.images == place) & usable)
    left, top, width, height = annotations.boxes[mine].T
    corners = np.stack([left, top, left + width, top + height], axis=1)
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
    value: Any = entry.get('segmentation')
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
