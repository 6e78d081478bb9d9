"""Compare ONNX graphs in onnxruntime with PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures import DetDataSample, SampleList
from torch import Tensor
from torchvision.ops import box_iou

from .detector_graphs import Detector
from .onnx_file import needed
from .part import Part, Size

TOLERANCE = 1e-4  # largest difference over largest value
ALIKE = 0.99  # intersection over union of two boxes that are the same detection
ROUGHLY_ALIKE = 0.9  # the same for graphs with fewer bits, and for masks
SHARE = 0.9  # of the detections that must be found again; rounding may turn a close decision


@dataclass
class Agreement:
    """How far the outputs of a graph agree with PyTorch.

    Args:
        difference: Largest difference of outputs over their largest value; of detections, those of
            the scores of detections that both found. Infinite where the graph fails.
        expected: Number of detections of PyTorch, without the worse half of each image, which may
            miss the last place by a rounding.
        found: Number of these detections that the graph found, too.
    """

    difference: float
    expected: int = 0
    found: int = 0

    @property
    def failed(self) -> bool:
        """Whether onnxruntime could not run the graph, or returned other shapes."""
        return self.difference == float('inf')

    @property
    def is_close(self) -> bool:
        """Whether the graph may be called equal to the model."""
        return self.difference <= TOLERANCE and self.found >= SHARE * self.expected

    def __str__(self) -> str:
        """Return the numbers for a line of the report."""
        found = f', {self.found} of {self.expected} detections' if self.expected else ''
        return f'{self.difference:.1e}{found}'


def compare(
    part: Part, path: Path, sizes: Sequence[Size], alike: float = ALIKE
) -> Iterator[tuple[Size, Agreement]]:
    """Compare onnxruntime with PyTorch on random images of some heights and widths.

    The detections of a detector are compared with those of mmdet, from score 0 on, because a
    threshold may leave none of a random image. A detection is the same if it has the same label
    and the overlap of the boxes is at least ``alike``.

    Raises:
        UserError: If the package onnxruntime is missing.
    """
    session = _session(path)
    for number, size in enumerate(sizes):
        inputs = part.example(number % 2 + 1, size)
        named = {name: x.numpy() for name, x in zip(part.inputs, inputs)}
        try:
            given = [torch.from_numpy(x) for x in session.run(None, named)]
        except Exception:  # a shape that was recorded as a constant fits nowhere else
            yield size, Agreement(float('inf'))
            continue
        with torch.no_grad():
            if isinstance(part, Detector):
                yield size, _compare_detections(given, part, inputs, alike)
            else:
                yield size, Agreement(max(map(_difference, given, part(*inputs))))


def predictions(part: Detector, images: Tensor, resized: Tensor, original: Tensor) -> SampleList:
    """Return mmdet's detections with any score above 0."""
    samples = [
        DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=(high, wide),
                scale_factor=(width / wide, height / high),
                batch_input_shape=tuple(images.shape[2:]),
            )
        )
        for (height, width), (high, wide) in zip(resized.tolist(), original.tolist())
    ]
    threshold, part.nms.cfg.score_thr = part.nms.cfg.get('score_thr', 0.0), 0.0
    try:
        return part.model.predict(images, samples)
    finally:
        part.nms.cfg.score_thr = threshold


def _session(path: Path) -> Any:
    """Return onnxruntime's session of a graph that keeps any score."""
    onnx, runtime = needed('onnx'), needed('onnxruntime')
    model = onnx.load(str(path))
    for constant in model.graph.initializer:
        if constant.name == 'score_thr':
            zero = onnx.numpy_helper.to_array(constant) * 0
            constant.CopyFrom(onnx.numpy_helper.from_array(zero, constant.name))
    return runtime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])


def _difference(given: Tensor, wanted: Tensor) -> float:
    if given.shape != wanted.shape:
        return float('inf')
    largest = (given - wanted).abs().max() / wanted.abs().max()
    return float('inf') if largest.isnan() else largest.item()


def _compare_detections(
    given: Sequence[Tensor], part: Detector, inputs: Sequence[Tensor], alike: float
) -> Agreement:
    total = Agreement(0.0)
    for sample, boxes, scores, labels, *masks in zip(predictions(part, *inputs), *given):
        wanted = sample.pred_instances
        wanted = wanted[: (len(wanted) + 1) // 2]
        overlaps, places = (box_iou(wanted.bboxes, boxes) * (wanted.labels[:, None] == labels)).max(
            1
        )
        same = overlaps >= alike
        if masks:
            threshold = part.nms.cfg.mask_thr_binary
            pasted = paste(masks[0][places], boxes[places], sample.ori_shape) >= threshold
            same &= _mask_overlap(pasted, wanted.masks) >= ROUGHLY_ALIKE
        total.expected += len(wanted)
        total.found += int(same.sum())
        if same.any():
            difference = _difference(scores[places[same]], wanted.scores[same])
            total.difference = max(total.difference, difference)
    return total


def paste(masks: Tensor, boxes: Tensor, shape: Size) -> Tensor:
    """Paste probabilities (N, h, w) of boxes (N, 4) into images (N, H, W), as mmdet does it."""
    return _do_paste_mask(masks[:, None], boxes, *shape, skip_empty=False)[0]


def _mask_overlap(masks: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of masks (N, H, W); two empty masks are equal."""
    union = (masks | others).flatten(1).sum(1)
    return ((masks & others).flatten(1).sum(1) / union).nan_to_num(1.0)


def sizes_to_check(size: Size) -> list[Size]:
    """Return the size that recorded the graph, an odd one above it and one below it."""
    height, width = size
    return [size, (height + 37, width + 91), (max(1, height // 2 - 3), max(1, width * 2 // 3))]
