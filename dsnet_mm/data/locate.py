"""Find the data paths of a config and check that they exist."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from dsnet_mm.errors import UserError, counted

from .shapes import METAINFO
from .shapes_segmentation import SEGMENTATION_METAINFO

SPLITS = ('train', 'val', 'test')
SOURCES = {
    'CocoDataset': 'COCO 2017 is available at https://cocodataset.org',
    'ImageNet': 'ImageNet-1k is available at https://image-net.org',
    'ADE20KDataset': 'ADE20K is available at http://sceneparsing.csail.mit.edu',
}

SHAPES_TASKS = {'CustomDataset': 'classification', 'BaseSegDataset': 'segmentation'}
SEGMENTATION = ('ADE20KDataset', 'BaseSegDataset')  # .jpg and .png files of the same names


def set_data_root(cfg: Config, data_root: str) -> None:
    """Move every dataset and every annotation file of ``cfg`` to ``data_root``, in place."""
    new_root = osp.join(data_root, '')
    old_roots = set()
    for dataset in find_datasets(cfg):
        old_roots.add(dataset.get('data_root', ''))
        dataset.data_root = new_root
    # the longest root first, because one root may be a prefix of another
    roots = sorted((osp.join(root, '') for root in old_roots if root), key=len, reverse=True)
    evaluators = {id(evaluator): evaluator for evaluator in find_evaluators(cfg)}
    for evaluator in evaluators.values():
        ann_file = evaluator.get('ann_file') or ''
        old_root = next((root for root in roots if ann_file.startswith(root)), None)
        if old_root:
            evaluator.ann_file = osp.join(new_root, ann_file[len(old_root) :])


def check_data(cfg: Config, splits: Sequence[str] = SPLITS) -> None:
    """Check that the files and folders of ``splits`` of ``cfg`` exist.

    Raises:
        UserError: If a path is missing, if a classification dataset has a wrong number of folders,
            or if an image for segmentation has no label map.
    """
    for path in find_paths(cfg, splits):
        if path and '://' not in path and not osp.exists(path):
            sources = filter(None, map(_source, find_datasets(cfg, splits)))
            source = next((f' ({source})' for source in sources), '')
            raise UserError(
                f'{path} is missing, but {cfg.filename} reads it; copy the dataset to this place'
                f'{source} or pass its folder with --data-root DIR'
            )
    for dataset in find_datasets(cfg, splits):
        _check_class_folders(dataset)
        _check_label_maps(dataset)


def find_paths(cfg: Config, splits: Sequence[str] = SPLITS) -> Iterator[str]:
    """Yield the annotation files and image folders of ``splits`` of ``cfg``."""
    for dataset in find_datasets(cfg, splits):
        root = dataset.get('data_root') or ''
        if dataset.get('ann_file'):
            yield osp.join(root, dataset.ann_file)
        prefix = _prefix(dataset)
        folders = prefix.values() if isinstance(prefix, dict) else [prefix]
        yield from (osp.join(root, folder) for folder in folders)
    for evaluator in find_evaluators(cfg, splits):
        if evaluator.get('ann_file'):
            yield evaluator.ann_file


def find_datasets(cfg: Config, splits: Sequence[str] = SPLITS) -> Iterator[ConfigDict]:
    """Yield the settings of the datasets of ``splits``, also inside wrappers."""
    for split in splits:
        dataloader = cfg.get(f'{split}_dataloader')
        if dataloader:
            yield from unwrap(dataloader.dataset)


def find_evaluators(cfg: Config, splits: Sequence[str] = SPLITS) -> Iterator[ConfigDict]:
    """Yield the settings of the metrics of ``splits``."""
    for split in splits:
        evaluators = cfg.get(f'{split}_evaluator') or []
        yield from evaluators if isinstance(evaluators, list) else [evaluators]


def unwrap(dataset: Any) -> Iterator[Any]:
    """Yield the datasets, or their settings, inside wrappers such as RepeatDataset."""
    if hasattr(dataset, 'datasets'):
        for inner in dataset.datasets:
            yield from unwrap(inner)
    elif hasattr(dataset, 'dataset'):
        yield from unwrap(dataset.dataset)
    else:
        yield dataset


def class_of(settings: ConfigDict, registry: Registry) -> Any:
    """Return the class in settings, by its name in ``registry`` if necessary, or None."""
    kind = settings.get('type')
    return kind if isinstance(kind, type) else registry.get(str(kind))


def type_name(settings: ConfigDict) -> str:
    """Return the class name in settings, without its scope; mmengine's new style has classes."""
    kind = settings.get('type')
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def _prefix(dataset: ConfigDict) -> str | ConfigDict:
    """Return the image folder, or folders by name; ImageNet of mmpretrain uses its split."""
    split = dataset.get('split') if type_name(dataset) == 'ImageNet' else None
    return dataset.get('data_prefix') or split or ''


def _classes(dataset: ConfigDict) -> Sequence[str]:
    """Return the class names in the config, or none if they are in a file."""
    classes = (dataset.get('metainfo') or {}).get('classes') or ()
    return () if isinstance(classes, str) else classes


def _source(dataset: ConfigDict) -> str | None:
    """Return how to get the files of a dataset, or None if it is unknown."""
    classes, kind = tuple(_classes(dataset)), type_name(dataset)
    if classes in (METAINFO['classes'], SEGMENTATION_METAINFO['classes']):
        task = SHAPES_TASKS.get(kind)
        return f'`dsnet-mm shapes {f"--task {task} " if task else ""}--root DIR` draws it'
    return SOURCES.get(kind)


def _check_class_folders(dataset: ConfigDict) -> None:
    """Check that a classification dataset without annotation file has one folder per class."""
    root, prefix, kind = dataset.get('data_root') or '', _prefix(dataset), type_name(dataset)
    if kind not in ('ImageNet', 'CustomDataset') or dataset.get('ann_file'):
        return
    if not isinstance(prefix, str) or not dataset.get('with_label', True) or '://' in root:
        return
    if kind == 'ImageNet' and osp.exists(osp.join(root, 'meta', f'{dataset.get("split")}.txt')):
        return  # this file lists the images and their classes
    wanted = len(_classes(dataset)) or (1000 if kind == 'ImageNet' else 0)
    folder = osp.join(root, prefix)
    found = sum(entry.is_dir() for entry in os.scandir(folder))
    if wanted and found != wanted:
        raise UserError(
            f'{folder} has {counted(found, "folder")}, but the dataset has {wanted} classes; '
            'sort the images into one folder per class'
            + (f' or list them in {osp.join(root, "meta", "")}' if kind == 'ImageNet' else '')
        )


def _check_label_maps(dataset: ConfigDict) -> None:
    """Check that each image of a segmentation dataset without a list of files has a label map."""
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
    if type_name(dataset) not in SEGMENTATION or dataset.get('ann_file') or '://' in root:
        return
    folders = Path(root, prefix.get('img_path', '')), Path(root, prefix.get('seg_map_path', ''))
    suffixes = dataset.get('img_suffix', '.jpg'), dataset.get('seg_map_suffix', '.png')
    images, maps = (
        {str(path.relative_to(folder)).removesuffix(suffix) for path in folder.rglob(f'*{suffix}')}
        for folder, suffix in zip(folders, suffixes, strict=True)
    )
    if not images:
        raise UserError(f'{folders[0]} has no image *{suffixes[0]}; copy the dataset to this place')
    if missing := sorted(images - maps):
        raise UserError(
            f'{folders[1]} has no label map for {counted(len(missing), "image")} of {folders[0]}, '
            f'such as {missing[0]}{suffixes[1]}; copy the label maps or remove the images'
        )
