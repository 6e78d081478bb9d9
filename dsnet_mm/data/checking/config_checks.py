"""Check the categories of an annotation file against the classes of a config."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file

from dsnet_mm.data.locate import SPLITS, class_of, find_datasets, find_evaluators
from dsnet_mm.data.text_files import read_lines
from dsnet_mm.errors import UserError, listing

from .coco_file import CocoFile, Mask
from .finding import Finding, finding

# Heads that are class-agnostic or predict other classes than those of the objects.
OTHER_HEADS = ('rpn_head', 'semantic_head')
MOST_CLASSES = 12  # in a message


def check_config(coco: CocoFile, cfg: Config) -> list[Finding]:
    """Check the file against the classes, heads and datasets of a config.

    Raises:
        UserError: If no dataset of the config has classes.
    """
    datasets = list(find_datasets(cfg))
    given = [found for dataset in datasets if (found := classes_of(dataset)) is not None]
    if not given:
        raise UserError(
            f'{cfg.filename} has no dataset with classes; pass the config of a detector or omit '
            '--config'
        )
    lists = [classes for classes in given if not isinstance(classes, str)]
    strings = [classes for classes in given if isinstance(classes, str)]
    if strings:
        return [
            Finding(
                'classes given as a string instead of a list',
                len(strings),
                (f'metainfo.classes of {cfg.filename} is {strings[0]!r}',),
                f'write a list; a single class needs a comma: classes = ({strings[0]!r},)',
            )
        ]
    classes, others = lists[0], [other for other in lists if other != lists[0]]
    return [
        Finding(
            'datasets whose classes differ from the first dataset of the config',
            len(others),
            tuple(listing([*map(repr, other)], MOST_CLASSES) for other in others[:1]),
            'use the same metainfo for train, val and test',
        ),
        _check_class_files(datasets),
        *_check_names(coco, classes),
        _check_heads(cfg, classes),
        _check_palettes(datasets, classes),
        *_check_loading(coco, datasets),
    ]


def classes_of(dataset: ConfigDict) -> tuple[str, ...] | str | None:
    """Return the classes of a dataset from its config, from a file, or from its type.

    A string that is not the path of a file is returned unchanged: mmdet would match class names
    inside this string.
    """
    classes = _metainfo(dataset, 'classes')
    if isinstance(classes, str):
        return tuple(read_lines(Path(classes))) if osp.isfile(classes) else classes
    return None if classes is None else tuple(classes)


def _metainfo(dataset: ConfigDict, key: str) -> Any:
    """Return a value of the metainfo of a dataset, by default that of its type, or None."""
    of_type = getattr(class_of(dataset, DATASETS), 'METAINFO', {}).get(key)
    own = (dataset.get('metainfo') or {}).get(key)
    return of_type if own is None else own


def head_classes(settings: Any, path: str = 'model') -> Iterator[tuple[str, int]]:
    """Yield config key and value of each number of classes of a head, also in lists of heads.

    Heads with stuff classes are left out: they predict more than the classes of the objects.
    """
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key == 'num_classes' and 'head' in path:
                yield f'{path}.{key}', value
            elif key == 'num_things_classes' and settings.get('num_stuff_classes') == 0:
                yield f'{path}.{key}', value
            elif key not in OTHER_HEADS:
                yield from head_classes(value, f'{path}.{key}')
    elif isinstance(settings, (list, tuple)):
        for number, value in enumerate(settings):
            yield from head_classes(value, f'{path}.{number}')


def _check_class_files(datasets: Sequence[ConfigDict]) -> Finding:
    files = [_metainfo(dataset, 'classes') for dataset in datasets]
    files = [file for file in files if isinstance(file, str) and osp.isfile(file)]
    return finding(
        'class files that mmdet reads differently',
        [file for file in dict.fromkeys(files) if _as_mmdet(file) != read_lines(Path(file))],
        'mmdet keeps byte order marks, empty lines and spaces as parts of class names; save the '
        'file as UTF-8 with one name per line and nothing else',
        str,
    )


def _as_mmdet(file: str) -> list[str]:
    try:
        return list_from_file(file)
    except UnicodeError:
        return []


def _check_names(coco: CocoFile, classes: Sequence[str]) -> list[Finding]:
    names = [name for name in coco.categories.names if name is not None]
    categories = coco.annotations.categories
    used = {coco.categories.names[place] for place in np.unique(categories[categories >= 0])}
    shared = [name for name in classes if name in names]
    in_file = list(dict.fromkeys(name for name in names if name in classes))
    hint = '' if shared else '; no class matches, which leads to an AP of -1'
    return [
        finding(
            'classes of the config that are missing in the file',
            [name for name in classes if name not in names],
            'mmdet numbers the classes by the categories of the file, so all later classes get a '
            "wrong name; use the names in 'categories', and list classes without objects there "
            f'too; the file has {listing([*map(repr, names)], MOST_CLASSES)}{hint}',
        ),
        finding(
            'categories with objects that are missing in the config',
            [name for name in names if name not in classes and name in used],
            "mmdet silently skips their objects; add the categories to 'classes' or delete the "
            'objects',
        ),
        finding(
            'classes in a different order than the categories of the file',
            [name for name, other in zip(shared, in_file, strict=True) if name != other],
            'mmdet numbers the classes by the file, so names and numbers do not match, and files '
            f'with different orders ruin the AP; write classes = {tuple(in_file)!r}',
        ),
    ]


def _check_heads(cfg: Config, classes: Sequence[str]) -> Finding:
    return finding(
        'heads with a wrong number of classes',
        [head for head in head_classes(cfg.get('model', {})) if head[1] != len(classes)],
        f'the config has {len(classes)} classes; set num_classes={len(classes)} in these heads',
        lambda head: f'{head[0]} is {head[1]}',
    )


def _check_palettes(datasets: Sequence[ConfigDict], classes: Sequence[str]) -> Finding:
    palettes = [_metainfo(dataset, 'palette') for dataset in datasets]
    lists = [palette for palette in palettes if isinstance(palette, (list, tuple))]
    return finding(
        'palettes with fewer colors than classes',
        [palette for palette in lists if len(palette) < len(classes)],
        "mmdet crashes when it draws images; add palette='random' to the metainfo",
        lambda palette: f'{len(palette)} for {len(classes)} classes',
    )


def trains_masks(cfg: Config, splits: Sequence[str] = SPLITS) -> bool:
    """Return whether a dataset of ``splits`` of a config loads masks, or a metric needs them."""
    metrics = [evaluator.get('metric') for evaluator in find_evaluators(cfg, splits)]
    return any(map(loads_masks, find_datasets(cfg, splits))) or any(
        'segm' in ([metric] if isinstance(metric, str) else metric or []) for metric in metrics
    )


def loads_masks(dataset: ConfigDict) -> bool:
    """Return whether the pipeline of a dataset loads masks."""
    return any(
        isinstance(step, dict) and bool(step.get('with_mask'))
        for step in dataset.get('pipeline') or []
    )


def check_absent_masks(coco: CocoFile, with_mask: bool) -> Finding:
    """Find objects without a mask, if the config loads masks."""
    annotations = coco.annotations
    absent = np.isin(annotations.masks, (Mask.NONE, Mask.EMPTY)) & (annotations.images >= 0)
    faulty = np.flatnonzero(absent & with_mask)
    return finding(
        'objects without the mask that the config needs',
        faulty,
        "mmdet crashes on them; add 'segmentation' or use a config without masks",
        coco.annotation_name,
        images=annotations.images[faulty],
    )


def _check_loading(coco: CocoFile, datasets: Sequence[ConfigDict]) -> list[Finding]:
    """Check for objects and images that the datasets cannot load or skip."""
    with_mask = any(map(loads_masks, datasets))
    filters = [dataset.get('filter_cfg') or {} for dataset in datasets]
    min_size = max((settings.get('min_size', 0) for settings in filters), default=0)
    small = np.flatnonzero(coco.images.sizes.min(1) < min_size)
    return [
        check_absent_masks(coco, with_mask),
        finding(
            f'images with a side below the {min_size} pixels of filter_cfg',
            small,
            'mmdet silently skips them in training; lower min_size to use them',
            coco.image_name,
            images=small,
        ),
    ]
