"""Where a config expects its data, and whether they are there."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from dsnet_mm.errors import UserError

SPLITS = ('train', 'val', 'test')


def set_data_root(cfg: Config, data_root: str) -> None:
    """Point every data set and every annotation file of ``cfg`` to ``data_root``, in place."""
    new_root = osp.join(data_root, '')
    old_roots = set()
    for dataset in find_datasets(cfg):
        old_roots.add(dataset.get('data_root', ''))
        dataset.data_root = new_root
    # the longest first: one root may be the beginning of another
    for old_root in sorted(filter(None, old_roots), key=len, reverse=True):
        for evaluator in find_evaluators(cfg):
            if evaluator.get('ann_file', '').startswith(old_root):
                evaluator.ann_file = osp.join(
                    new_root, evaluator.ann_file[len(old_root) :].lstrip('/')
                )


def check_data(cfg: Config, splits: Sequence[str] = SPLITS) -> None:
    """Look whether the files and folders that ``splits`` of ``cfg`` name exist.

    Raises:
        UserError: If one is missing.
    """
    for path in find_paths(cfg, splits):
        if '://' not in path and not osp.exists(path):
            raise UserError(
                f'{path} is missing, which {cfg.filename} reads; put the data set there '
                '(COCO 2017 comes from https://cocodataset.org) or name its folder with '
                '--data-root DIR'
            )


def find_paths(cfg: Config, splits: Sequence[str] = SPLITS) -> Iterator[str]:
    """Yield the annotation files and image folders which ``splits`` of ``cfg`` read."""
    for dataset in find_datasets(cfg, splits):
        root = dataset.get('data_root') or ''
        if dataset.get('ann_file'):
            yield osp.join(root, dataset.ann_file)
        prefix = dataset.get('data_prefix') or ''
        folders = prefix.values() if isinstance(prefix, dict) else [prefix]
        yield from (osp.join(root, folder) for folder in folders)
    for evaluator in find_evaluators(cfg, splits):
        if evaluator.get('ann_file'):
            yield evaluator.ann_file


def find_datasets(cfg: Config, splits: Sequence[str] = SPLITS) -> Iterator[ConfigDict]:
    """Yield the settings of the data sets of ``splits``, those inside wrappers too."""
    for split in splits:
        dataloader = cfg.get(f'{split}_dataloader')
        if dataloader:
            yield from _unwrap(dataloader.dataset)


def find_evaluators(cfg: Config, splits: Sequence[str] = SPLITS) -> Iterator[ConfigDict]:
    """Yield the settings of the metrics of ``splits``."""
    for split in splits:
        evaluators = cfg.get(f'{split}_evaluator') or []
        yield from evaluators if isinstance(evaluators, list) else [evaluators]


def _unwrap(dataset: ConfigDict) -> Iterator[ConfigDict]:
    if 'datasets' in dataset:
        for inner in dataset.datasets:
            yield from _unwrap(inner)
    elif 'dataset' in dataset:
        yield from _unwrap(dataset.dataset)
    else:
        yield dataset
