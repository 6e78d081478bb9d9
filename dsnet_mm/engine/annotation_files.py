"""Check the annotation files of a run before it starts, without reading them twice."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict

from dsnet_mm.data.checking.annotation_checks import check_before_training
from dsnet_mm.data.checking.coco_file import read_content, to_columns
from dsnet_mm.data.checking.config_checks import check_absent_masks, trains_masks
from dsnet_mm.data.checking.finding import Finding
from dsnet_mm.data.locate import class_of, find_datasets
from dsnet_mm.errors import UserError, counted


@dataclass
class Checked:
    """Hold what the checks found and read."""

    warnings: list[str] = field(default_factory=list)
    contents: dict[str, Any] = field(default_factory=dict)  # parsed files by path


def check_annotations(cfg: Config, splits: Sequence[str]) -> Checked:
    """Check the annotation files of the COCO datasets of ``splits`` of ``cfg``.

    Raises:
        UserError: If mmdet would stop at a file, or ignore more than a few of its objects.
    """
    masks = trains_masks(cfg, splits)
    checked = Checked()
    for dataset in find_datasets(cfg, splits):
        path = osp.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        if path in checked.contents or not _reads_as_coco(dataset) or not osp.isfile(path):
            continue
        content = read_content(path)
        coco = to_columns(path, content)
        stopping, others = check_before_training(coco, masks)
        if masks and (absent := check_absent_masks(coco, masks)).fails:
            stopping.append(absent)
        advice = f'run `dsnet-mm check-data {path} {_images_of(dataset)}` for the remedy'
        if stopping:
            more = f', and {counted(len(stopping) - 1, "more kind")} of problems'
            more = more if stopping[1:] else ''
            raise UserError(f'{path} has {_listing(stopping[0])}{more}; {advice}')
        checked.warnings += [f'{path} has {_listing(fault)}; {advice}.' for fault in others]
        checked.contents[path] = content
    return checked


@contextmanager
def handed_over(contents: Mapping[str, Any]) -> Iterator[None]:
    """Let mmdet use the parsed files in ``contents``, each once, instead of reading them again."""
    left = dict(contents)

    class ParsedCOCO(COCO):
        def __init__(self, annotation_file: str | None = None) -> None:
            content = left.pop(annotation_file or '', None)
            super().__init__(annotation_file if content is None else None)
            if content is not None:
                self.dataset = content
                self.createIndex()
                self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    api = CocoDataset.COCOAPI
    CocoDataset.COCOAPI = ParsedCOCO
    try:
        yield
    finally:
        CocoDataset.COCOAPI = api


def _listing(fault: Finding) -> str:
    return f'{fault.title}: {fault.count}, such as {fault.examples[0]}'


def _images_of(dataset: ConfigDict) -> str:
    """Return the image folder of a dataset."""
    folder = (dataset.get('data_prefix') or {}).get('img') or ''
    return osp.join(dataset.get('data_root') or '', folder) or '.'


def _reads_as_coco(dataset: ConfigDict) -> bool:
    """Return whether mmdet reads a dataset as it reads COCO, unlike LVIS or panoptic files."""
    kind = class_of(dataset, DATASETS)
    parts = ('COCOAPI', 'load_data_list', 'parse_data_info')
    return isinstance(kind, type) and all(
        getattr(kind, part, None) is getattr(CocoDataset, part) for part in parts
    )
