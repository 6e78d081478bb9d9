"""Check the categories of an annotation file against the classes of a config."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file

from dsnet_mm.data.locate import find_datasets
from dsnet_mm.errors import UserError

from .coco_file import CocoFile, Mask
from .finding import Finding, finding

# Heads that are class-agnostic or predict other classes than those of the objects.
OTHER_HEADS = ('rpn_head', 'semantic_head', 'panoptic_fusion_head')


def check_config(coco: CocoFile, cfg: Config) -> list[Finding]:
    """Check the file against the classes, heads and datasets of a config.

    Raises:
        UserError: If no dataset of the config has classes.
    """
    datasets = list(find_datasets(cfg))
    given = [classes_of(dataset) for dataset in datasets]
    given = [classes for classes in given if classes is not None]
    if not given:
        raise UserError(
            f'{cfg.filename} has no dataset with classes; pass the config of a detector or omit '
            '--config'
        )
    one_text = [classes for classes in given if isinstance(classes, str)]
    if one_text:
        text = one_text[0]
        return [
            Finding(
                'classes given as a string instead of a list',
                len(one_text),
                (f'metainfo.classes of {cfg.filename} is {text!r}',),
                f'write a list; a single class needs a comma: classes = ({text!r},)',
            )
        ]
    classes = given[0]
    others = [other for other in given if other != classes]
    return [
        Finding(
            'datasets whose classes differ from the first dataset of the config',
            len(others),
            tuple(_listing(other) for other in others[:1]),
            'use the same metainfo for train, val and test',
        ),
        *_check_names(coco, classes),
        *_check_heads(cfg, classes),
        *_check_palette(datasets, classes),
        *_check_loading(coco, datasets),
    ]


def classes_of(dataset: ConfigDict) -> tuple[str, ...] | str | None:
    """Return the classes of a dataset from its config, from a file, or from its type.

    A string that is not the path of a file is returned unchanged: mmdet would match class names
    inside this string.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        kind = DATASETS.get(str(dataset.get('type')))
        classes = getattr(kind, 'METAINFO', {}).get('classes')
    if isinstance(classes, str):
        return tuple(list_from_file(classes)) if osp.isfile(classes) else classes
    return None if classes is None else tuple(classes)


def head_classes(settings: Any, path: str = 'model') -> Iterator[tuple[str, int]]:
    """Yield config key and value of each ``num_classes`` of a head, also in lists of heads."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key == 'num_classes' and 'head' in path:
                yield f'{path}.{key}', value
            elif key not in OTHER_HEADS:
                yield from head_classes(value, f'{path}.{key}')
    elif isinstance(settings, (list, tuple)):
        for number, value in enumerate(settings):
            yield from head_classes(value, f'{path}.{number}')


def _check_names(coco: CocoFile, classes: Sequence[str]) -> list[Finding]:
    names = [name for name in coco.categories.names if name is not None]
    used = {
        coco.categories.names[place]
        for place in np.unique(coco.annotations.categories)
        if place >= 0
    }
    missing = [name for name in classes if name not in names]
    extra = [name for name in names if name not in classes and name in used]
    shared = [name for name in classes if name in names]
    in_file = list(dict.fromkeys(name for name in names if name in classes))
    moved = [name for name, other in zip(shared, in_file, strict=True) if name != other]
    hint = '' if shared else '; no class matches, which leads to an AP of -1'
    return [
        finding(
            'classes of the config that are missing in the file',
            range(len(missing)),
            lambda place: repr(missing[place]),
            'mmdet numbers the classes by the categories of the file, so all later classes get a '
            "wrong name; use the names in 'categories', and list classes without objects there "
            f'too; the file has {_listing(names)}{hint}',
        ),
        finding(
            'categories with objects that are missing in the config',
            range(len(extra)),
            lambda place: repr(extra[place]),
            "mmdet silently skips their objects; add the categories to 'classes' or delete the "
            'objects',
        ),
        finding(
            'classes in a different order than the categories of the file',
            range(len(moved)),
            lambda place: repr(moved[place]),
            'mmdet numbers the classes by the file, so names and numbers do not match, and files '
            f'with different orders ruin the AP; write classes = {tuple(in_file)!r}',
        ),
    ]


def _check_heads(cfg: Config, classes: Sequence[str]) -> list[Finding]:
    heads = list(head_classes(cfg.get('model', {})))
    wrong = [(place, value) for place, value in heads if value != len(classes)]
    return [
        finding(
            'heads with a wrong number of classes',
            range(len(wrong)),
            lambda place: f'{wrong[place][0]} is {wrong[place][1]}',
            f'the config has {len(classes)} classes; set num_classes={len(classes)} in these heads',
        )
    ]


def _check_palette(datasets: Sequence[ConfigDict], classes: Sequence[str]) -> list[Finding]:
    """Check the palettes, which default to the one of the dataset type as classes do."""
    short = []
    for dataset in datasets:
        own = getattr(DATASETS.get(str(dataset.get('type'))), 'METAINFO', {}).get('palette')
        palette = (dataset.get('metainfo') or {}).get('palette', own)
        if isinstance(palette, (list, tuple)) and len(palette) < len(classes):
            short.append(len(palette))
    return [
        finding(
            'palettes with fewer colors than classes',
            range(len(short)),
            lambda place: f'{short[place]} for {len(classes)} classes',
            "mmdet crashes when it draws images; add palette='random' to the metainfo",
        )
    ]


def _check_loading(coco: CocoFile, datasets: Sequence[ConfigDict]) -> list[Finding]:
    """Check for objects and images that the datasets cannot load or skip."""
    annotations = coco.annotations
    with_mask = any(
        transform.get('with_mask') for dataset in datasets for transform in _pipeline(dataset)
    )
    no_mask = (annotations.masks == Mask.NONE) & (annotations.images >= 0) if with_mask else []
    no_mask = np.flatnonzero(no_mask)
    filters = [dataset.get('filter_cfg') or {} for dataset in datasets]
    min_size = max((settings.get('min_size', 0) for settings in filters), default=0)
    small = np.flatnonzero(coco.images.sizes.min(1) < min_size)
    return [
        finding(
            'objects without the mask that the config needs',
            no_mask,
            coco.annotation_name,
            "mmdet crashes on them; add 'segmentation' or use a config without masks",
            images=annotations.images[no_mask],
        ),
        finding(
            f'images with a side below the {min_size} pixels of filter_cfg',
            small,
            coco.image_name,
            'mmdet silently skips them in training; lower min_size to use them',
            images=small,
        ),
    ]


def _pipeline(dataset: ConfigDict) -> list[ConfigDict]:
    return [transform for transform in dataset.get('pipeline') or [] if isinstance(transform, dict)]


def _listing(names: Sequence[str], most: int = 12) -> str:
    more = f', and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(map(repr, names[:most])) + more
