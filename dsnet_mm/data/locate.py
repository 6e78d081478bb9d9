"""Find the data paths of a config and check that they exist."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from dsnet_mm.errors import UserError, counted

from .shapes import METAINFO

SPLITS = ('train', 'val', 'test')
SOURCES = {
    'CocoDataset': 'COCO 2017 is available at https://cocodataset.org',
    'ImageNet': 'ImageNet-1k is available at https://image-net.org',
}


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
        UserError: If a path is missing, or a classification dataset has a wrong number of folders.
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


def _type(dataset: ConfigDict) -> str:
    """Return the class name of a dataset without its scope."""
    return str(dataset.get('type')).rpartition('.')[2]


def _prefix(dataset: ConfigDict) -> str | ConfigDict:
    """Return the image folder, or folders by name; ImageNet of mmpretrain uses its split."""
    split = dataset.get('split') if _type(dataset) == 'ImageNet' else None
    return dataset.get('data_prefix') or split or ''


def _classes(dataset: ConfigDict) -> Sequence[str]:
    """Return the class names in the config, or none if they are in a file."""
    classes = (dataset.get('metainfo') or {}).get('classes') or ()
    return () if isinstance(classes, str) else classes


def _source(dataset: ConfigDict) -> str | None:
    """Return how to get the files of a dataset, or None if it is unknown."""
    if tuple(_classes(dataset)) == METAINFO['classes']:
        task = '' if _type(dataset) == 'CocoDataset' else '--task classification '
        return f'`dsnet-mm shapes {task}--root DIR` draws it'
    return SOURCES.get(_type(dataset))


def _check_class_folders(dataset: ConfigDict) -> None:
    """Check that a classification dataset without annotation file has one folder per class."""
    root, prefix, kind = dataset.get('data_root') or '', _prefix(dataset), _type(dataset)
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
