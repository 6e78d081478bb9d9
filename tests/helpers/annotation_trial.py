"""Load, train and evaluate with an annotation file as mmdet does, in a fraction of a second."""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import io
import logging
import os
import resource
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from pycocotools import mask as mask_utils
from pycocotools.cocoeval import COCOeval

from helpers.annotation_mutations import CLASSES, HEIGHT, MISSING, WIDTH, Content, faultless
from helpers.detectors import FEW_REGIONS
from helpers.paths import ROOT

FINE, LOST, CRASH = 'fine', 'lost', 'crash'
MEMORY, SECONDS = 8 << 30, 1  # limits of a trial which may kill its process


class Trial:
    """Try annotation files with one detector.

    Args:
        folder: Folder of the images, which :func:`.annotation_mutations.write_images` wrote.
        with_mask: Whether the detector trains masks.
    """

    def __init__(self, folder: Path, with_mask: bool) -> None:
        self.folder, self.with_mask = folder, with_mask
        self.model = _build_model(with_mask)
        self.trained: dict[bytes, bool] = {}  # whether the losses were finite, by packed data

    def outcome(
        self, path: Path, content: Content, classes: tuple[str, ...] = CLASSES
    ) -> tuple[str, str]:
        """Return 'fine', 'lost' or 'crash', and what was lost or raised.

        Args:
            path: The annotation file.
            content: Its content, from which the faultless file differs.
            classes: The classes of the config.
        """
        if self.with_mask and _may_kill(content):
            return _in_a_child(lambda: self._outcome(path, content, classes, train=False))
        return self._outcome(path, content, classes)

    def _outcome(
        self, path: Path, content: Content, classes: tuple[str, ...], train: bool = True
    ) -> tuple[str, str]:
        try:
            with _quiet():
                lost = next(self._losses(path, content, classes, train), None)
        except Exception as error:
            return CRASH, f'{type(error).__name__}: {str(error)[:80]}'
        return (LOST, lost) if lost else (FINE, '')

    def _losses(
        self, path: Path, content: Content, classes: tuple[str, ...], train: bool
    ) -> Iterator[str]:
        dataset = self._dataset(path, classes, test_mode=False)
        packed = pseudo_collate([dataset[place] for place in range(len(dataset))])
        entries = content['annotations']
        images = sum(
            any(entry.get('image_id', MISSING) == image.get('id') for entry in entries)
            for image in content['images']
        )
        if len(dataset) < images:
            yield f'{len(dataset)} of {images} images'
        wanted = sum(entry.get('iscrowd') not in (1, True) for entry in entries)
        found = sum(len(sample.gt_instances) for sample in packed['data_samples'])
        if found < wanted:
            yield f'{found} of {wanted} objects in training'
        named = {number: classes[label] for number, label in dataset.cat2label.items()}
        for category in content['categories']:
            if named.get(category['id'], category['name']) != category['name']:
                yield f'the name of class {category["name"]}'
        if train and not self._trains(packed):
            yield 'a loss that is not finite'
        precisions, evaluated = self._evaluate(path, content, classes)
        if evaluated < wanted:
            yield f'{evaluated} of {wanted} objects in evaluation'
        for name, precision in precisions.items():
            if name.endswith('mAP') and precision < 0.9999:
                yield f'{name} {precision:.3f}'

    def _dataset(self, path: Path, classes: tuple[str, ...], test_mode: bool) -> CocoDataset:
        load = dict(type='LoadAnnotations', with_bbox=True, with_mask=self.with_mask)
        return CocoDataset(
            ann_file=str(path),
            data_prefix=dict(img=str(self.folder)),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[dict(type='LoadImageFromFile'), load, dict(type='PackDetInputs')],
            serialize_data=False,
            test_mode=test_mode,
        )

    def _trains(self, packed: dict[str, Any]) -> bool:
        """Return whether an iteration gives finite losses; the model ends as it began."""
        data = []
        for sample in packed['data_samples']:
            for objects in (sample.gt_instances, sample.ignored_instances):
                data += [objects.bboxes.tensor.numpy(), objects.labels.numpy()]
                data += [objects.masks.masks] if self.with_mask else []
        key = b'|'.join(str(array.shape).encode() + array.tobytes() for array in data)
        if key not in self.trained:
            torch.manual_seed(0)
            batch = self.model.data_preprocessor(copy.deepcopy(packed), training=True)
            losses = self.model.loss(batch['inputs'], batch['data_samples'])
            total = self.model.parse_losses(losses)[0]
            total.backward()
            self.model.zero_grad()
            self.trained[key] = bool(total.isfinite())
        return self.trained[key]

    def _evaluate(
        self, path: Path, content: Content, classes: tuple[str, ...]
    ) -> tuple[dict[str, float], int]:
        """Evaluate a detector that finds every object of the annotation file.

        Returns:
            The metrics, and the number of objects that they count.
        """
        metric = CocoMetric(str(path), ['bbox', 'segm'] if self.with_mask else 'bbox')
        dataset = self._dataset(path, classes, test_mode=True)
        metric.dataset_meta = dataset.metainfo
        objects = _objects(content, classes, self.with_mask)
        for place in range(len(dataset)):
            info = dataset.get_data_info(place)
            name = os.path.basename(info['img_path'])
            found = [thing for thing in objects if thing.file == name]
            instances = dict(
                bboxes=torch.tensor([thing.box for thing in found]).reshape(-1, 4),
                labels=torch.tensor([thing.label for thing in found], dtype=torch.int64),
                scores=torch.full((len(found),), 0.5 + place / 100),  # wrong ones come first
            )
            if self.with_mask:
                masks = np.array([thing.mask for thing in found], dtype=np.uint8)
                instances['masks'] = torch.tensor(masks.reshape(-1, HEIGHT, WIDTH))
            sample = dict(img_id=info['img_id'], ori_shape=(HEIGHT, WIDTH))
            metric.process({}, [dict(sample, pred_instances=instances)])
        with _evaluations() as done:
            metrics = metric.evaluate(len(dataset))
        return metrics, min(map(_counted_objects, done), default=0)


@dataclass
class Thing:
    """What a perfect detector finds."""

    file: str
    label: int
    box: tuple[float, ...]
    mask: np.ndarray


def _objects(content: Content, among: tuple[str, ...], with_mask: bool) -> list[Thing]:
    """Return each object once; where a mutated value has no meaning, the faultless one holds."""
    right = faultless()
    by_id = {entry['id']: entry for entry in right['annotations']}
    names = [category.get('name') for category in content['categories']]
    classes = [name for name in names if name in among]
    things: dict[Any, Thing] = {}
    for place, entry in enumerate(content['annotations']):
        number = entry.get('id')
        key = number if type(number) is int and number in by_id else place % len(by_id) + 1
        old = by_id[key]
        image = (
            _find(content['images'], entry.get('image_id')) or right['images'][old['image_id'] - 1]
        )
        file = image.get('file_name')
        if not isinstance(file, str) or not file.endswith('.png'):
            file = right['images'][old['image_id'] - 1]['file_name']
        category = _find(content['categories'], entry.get('category_id')) or {}
        name = category.get('name')
        label = classes.index(name) if name in classes else old['category_id'] - 1
        left, top, width, height = _box(entry.get('bbox')) or old['bbox']
        box = (  # a detector clips its boxes; a pixel is left to rounding
            max(left, -1.0),
            max(top, -1.0),
            min(left + width, WIDTH + 1.0),
            min(top + height, HEIGHT + 1.0),
        )
        if entry.get('iscrowd') in (1, True) or box[0] >= box[2] or box[1] >= box[3]:
            continue
        mask = _mask(entry.get('segmentation')) if with_mask else None
        mask = _mask(old['segmentation']) if mask is None else mask
        thing = Thing(os.path.basename(file.replace('\\', '/')), label, box, mask)
        things[thing.file, label, box] = thing
    return list(things.values())


def _find(entries: list[Any], number: Any) -> Any:
    return next((entry for entry in entries if entry.get('id', MISSING) == number), None)


def _box(box: Any) -> list[float] | None:
    numbers = isinstance(box, list) and len(box) == 4 and {*map(type, box)} <= {int, float, bool}
    if not numbers or not all(-1e9 < side < 1e9 for side in box) or min(box[2:]) <= 0:
        return None
    return box


def _mask(value: Any) -> np.ndarray | None:
    """Return a mask if it has a meaning."""
    try:
        if isinstance(value, list):
            value = mask_utils.merge(mask_utils.frPyObjects(value, HEIGHT, WIDTH))
        elif isinstance(value['counts'], list):
            value = mask_utils.frPyObjects(value, *value['size'])
        mask = mask_utils.decode(value)
    except Exception:
        return None
    return mask if mask.shape == (HEIGHT, WIDTH) and mask.any() else None


def _may_kill(content: Content) -> bool:
    """Return whether pycocotools may end the process or run forever.

    It does so for coordinates like NaN, and for runs that do not fill the size of their mask.
    """
    known = [entry['segmentation'] for entry in faultless()['annotations']]
    entries = content.get('annotations')
    masks = [
        entry.get('segmentation')
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    ]
    return any(mask not in known and not _is_harmless(mask) for mask in masks)


def _is_harmless(mask: Any) -> bool:
    if isinstance(mask, dict):
        return not mask
    if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        return True  # an error of Python
    numbers = [number for polygon in mask for number in polygon]
    return all(type(number) is int and abs(number) < 1000 for number in numbers)


def _in_a_child(run: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Run a trial in a copy of this process, which may die; PyTorch does not train in it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            faulthandler.disable()
            os.write(writer, '|'.join(run()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        words = answer.read()
    status = os.waitpid(child, 0)[1]
    if not words:
        return CRASH, f'killed by signal {os.WTERMSIG(status)}'
    outcome, _, reason = words.partition('|')
    return outcome, reason


@contextlib.contextmanager
def _evaluations() -> Iterator[list[COCOeval]]:
    """Collect the evaluations of mmdet."""
    done = []

    class Kept(COCOeval):
        def evaluate(self) -> None:
            super().evaluate()
            done.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_metric, 'COCOeval', Kept)
        yield done


def _counted_objects(evaluation: COCOeval) -> int:
    """Return the number of objects that count for the AP over all sizes."""
    whole = evaluation.params.areaRng[0]
    parts = [part for part in evaluation.evalImgs if part and part['aRng'] == whole]
    return sum(int(np.sum(part['gtIgnore'] == 0)) for part in parts)


def _build_model(with_mask: bool) -> Any:
    register_all_modules()
    name = 'mask_rcnn_dsnet_s_fpn_1x_coco' if with_mask else 'retinanet_dsnet_s_fpn_1x_coco'
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    arch = dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4, mlp_ratio=1)
    cfg.model.backbone = dict(type='DSNet', arch=arch)
    cfg.model.neck.update(in_channels=[8] * 4, out_channels=8)
    if with_mask:
        cfg.merge_from_dict(FEW_REGIONS)
        cfg.model.rpn_head.update(in_channels=8, feat_channels=8)
        roi_head = cfg.model.roi_head
        for part in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
            part.out_channels = 8
        roi_head.bbox_head.update(in_channels=8, fc_out_channels=8, num_classes=2)
        roi_head.mask_head.update(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=2)
    else:
        head = cfg.model.bbox_head
        head.update(in_channels=8, feat_channels=8, stacked_convs=1, num_classes=2)
    return MODELS.build(cfg.model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what pycocotools prints and mmengine logs."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(logging.NOTSET)
