"""Evaluate a graph on an annotation file in COCO format, without PyTorch."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dsnet_mm.data.checking.annotation_checks import check_before_training
from dsnet_mm.data.checking.coco_file import read_content, to_columns
from dsnet_mm.data.pictures import read_image
from dsnet_mm.errors import UserError

from .graph import Graph

NAMES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""The first statistics of pycocotools, as mmdet names them."""


class Evaluation:
    """Collect the detections of a graph on a dataset.

    Args:
        graph: The graph; its classes and the categories belong together by their names.
        ann: Annotation file in COCO format.
        folder: Folder of its images.

    Raises:
        UserError: If the file cannot be evaluated or has none of the graph's classes.
    """

    def __init__(self, graph: Graph, ann: str, folder: str) -> None:
        self.graph, self.folder = graph, folder
        self.content = read_content(ann)
        stopping, _ = check_before_training(to_columns(ann, self.content), graph.with_masks)
        if stopping:
            fault = stopping[0]
            raise UserError(
                f'{ann} has {fault.title}: {fault.count}, such as {fault.examples[0]}; run '
                f'`dsnet-mm check-data {ann} {folder}` for the remedy'
            )
        known = {category['name']: category['id'] for category in self.content['categories']}
        self.categories = [known.get(name) for name in graph.classes]
        if not any(category is not None for category in self.categories):
            raise UserError(
                f'{ann} has none of the classes {", ".join(graph.classes)}; pass an annotation '
                'file with the classes of the model'
            )
        self.images: list[dict[str, Any]] = self.content['images']
        self.found: list[dict[str, Any]] = []

    def detect(self, image: dict[str, Any]) -> None:
        """Detect on one of the images.

        Raises:
            UserError: If it cannot be read.
        """
        detections = self.graph(read_image(Path(self.folder, image['file_name'])))
        for label, annotation in zip(detections.labels, detections.annotations()):
            category = self.categories[label]
            if category is not None:
                self.found.append(dict(annotation, image_id=image['id'], category_id=category))

    def metrics(self) -> dict[str, float]:
        """Return the average precisions as mmdet names and computes them, {} without detections."""
        if not self.found:
            return {}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints each step
            truth = COCO()
            truth.dataset = self.content
            truth.createIndex()
            metrics = _average_precisions(truth, self.found, 'bbox', self.categories)
            if self.graph.with_masks:
                # the size of an object is the area of its mask if there is no box
                masks = [{key: x[key] for key in x if key != 'bbox'} for x in self.found]
                metrics |= _average_precisions(truth, masks, 'segm', self.categories)
        return metrics


def _average_precisions(
    truth: COCO, found: Sequence[dict[str, Any]], kind: str, categories: Sequence[int | None]
) -> dict[str, float]:
    evaluation = COCOeval(truth, truth.loadRes(list(found)), kind)
    evaluation.params.catIds = [category for category in categories if category is not None]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {
        f'coco/{kind}_{name}': float(x) for name, x in zip(NAMES, np.round(evaluation.stats, 4))
    }
