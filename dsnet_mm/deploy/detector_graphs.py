"""Detectors with their postprocessing, as mmdet computes it, for graphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import SingleStageDetector
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from torch import Tensor, nn

from .part import IMAGE_AXES, Axes, Part, Size
from .postprocessing import NO_BOX, Suppression, clip, enlarge, take, top

DENSE_STEPS = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')


class Detector(Part):
    """A detector whose outputs are boxes, scores and labels, best first.

    Args:
        model: The detector.
        test_cfg: The settings of its last NMS.
    """

    format = 'detections'
    inputs = {'images': IMAGE_AXES, 'resized_sizes': {0: 'batch'}, 'original_sizes': {0: 'batch'}}

    score_thr: Tensor

    def __init__(self, model: BaseModel, test_cfg: ConfigDict) -> None:
        super().__init__()
        self.model = model
        self.nms = Suppression(test_cfg)
        threshold = test_cfg.get('score_thr', 0.0)
        # a buffer, so that the graph holds the threshold under this name
        self.register_buffer('score_thr', torch.tensor(threshold))
        self.facts = dict(score_thr=json.dumps(threshold))

    @property
    def backbone(self) -> nn.Module:
        """The backbone."""
        return self.model.backbone

    def example(self, batch: int, size: Size) -> tuple[Tensor, ...]:
        """Return random images with padding, and their sizes before padding and before resizing."""
        largest = torch.tensor(size).repeat(batch, 1)
        resized = (largest - torch.arange(batch)[:, None] % 2 * 3).clamp(min=1)
        original = resized * 3 // 2 + 1
        images = torch.randn(batch, 3, *size)
        for image, (height, width) in zip(images, resized.tolist()):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return images, resized, original

    def outputs(self, images: Tensor) -> Axes:
        """Return the names of the outputs and of their dynamic axes."""
        return {name: {0: 'batch'} for name in ('boxes', 'scores', 'labels')}

    def forward(
        self, images: Tensor, resized_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, ...]:
        """Detect objects.

        Args:
            images: (B, 3, H, W), normalized, with padding at the right and at the bottom.
            resized_sizes: (B, 2), heights and widths without padding.
            original_sizes: (B, 2), heights and widths before resizing.

        Returns:
            Boxes (B, N, 4) in pixels of the original images, scores (B, N), highest first, and
            labels (B, N). Places without a box have score 0 and label -1. If the model has a mask
            head, also the probabilities (B, N, h, w) that cells of the boxes belong to the object.
        """
        return self.detect(self.model.extract_feat(images), resized_sizes, original_sizes)

    def detect(
        self, maps: Sequence[Tensor], resized_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, ...]:
        """Do the same from the maps of the neck."""
        raise NotImplementedError

    def select(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return the boxes (B, M, 4), scores (B, M) and labels (B, M) that remain, best first."""
        best, places = self.nms(boxes, scores, labels)
        found = best > NO_BOX
        boxes = take(boxes, places) * found[..., None].to(boxes)
        labels = torch.where(found, take(labels, places), -1)
        shape = (-1, self.nms.most)  # recorded as constants
        return boxes.reshape(*shape, 4), best.clamp(min=0).reshape(shape), labels.reshape(shape)


class OneStageGraph(Detector):
    """A one-stage detector with NMS."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__(model, model.bbox_head.test_cfg)

    @staticmethod
    def accepts(model: BaseModel) -> bool:
        """Return whether a model is a one-stage detector with the usual postprocessing."""
        head: Any = getattr(model, 'bbox_head', None)
        return (
            keeps(model, SingleStageDetector, 'predict')
            and keeps(head, BaseDenseHead, *DENSE_STEPS)
            and not getattr(head.loss_cls, 'custom_cls_channels', False)
        )

    def detect(
        self, maps: Sequence[Tensor], resized_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the head and select its boxes."""
        head = self.model.bbox_head
        outputs = head(maps)
        boxes, scores, labels, factors = candidates(head, outputs, head.test_cfg)
        boxes = enlarge(clip_if(head, boxes, resized_sizes), resized_sizes, original_sizes)
        kept = (scores > self.score_thr) & is_large(boxes, head.test_cfg)
        scores = scores if factors is None else scores * factors
        return self.select(boxes, torch.where(kept, scores, NO_BOX), labels)


def keeps(part: object, base: type, *names: str) -> bool:
    """Return whether the class of a part is ``base``, or inherits these methods of it."""
    kind = type(part)
    return issubclass(kind, base) and all(getattr(kind, x) is getattr(base, x) for x in names)


def clip_if(head: Any, boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip boxes to images of the sizes (B, 2) if the box coder of a head does so."""
    return clip(boxes, sizes) if getattr(head.bbox_coder, 'clip_border', False) else boxes


def candidates(
    head: Any, outputs: Sequence[Sequence[Tensor]], cfg: ConfigDict
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the best pairs of a prior and a class on each level of a dense head.

    Args:
        head: The head.
        outputs: Its outputs: scores, boxes, and perhaps factors of the scores, for each level.
        cfg: Its test_cfg, whose ``nms_pre`` is the number of pairs from each level.

    Returns:
        Decoded boxes (B, N, 4), their scores (B, N), their labels (B, N), and factors of the scores
        (B, N) or None. Places without a box have score -1.
    """
    shapes = [level.shape[2:] for level in outputs[0]]
    first = outputs[0][0]
    priors = head.prior_generator.grid_priors(shapes, dtype=first.dtype, device=first.device)
    levels = [
        _best_of_level(head, maps, anchors, cfg.nms_pre)
        for *maps, anchors in zip(*outputs[:3], priors)
    ]
    near, codes, scores, labels, *factors = (torch.cat(parts, 1) for parts in zip(*levels))
    boxes = head.bbox_coder.decode(near.flatten(0, 1), codes.flatten(0, 1))
    return boxes.reshape(*scores.shape, 4), scores, labels, factors[0] if factors else None


def _best_of_level(
    head: Any, maps: Sequence[Tensor], priors: Tensor, count: int
) -> tuple[Tensor, ...]:
    """Return priors, codes of boxes, scores, labels, and perhaps factors of the best pairs."""
    classes, batch = head.cls_out_channels, maps[0].shape[0]
    logits, codes, *factors = (x.permute(0, 2, 3, 1).flatten(1) for x in maps)
    logits = logits.reshape(batch, -1, classes)
    if not head.use_sigmoid_cls:
        classes -= 1
        # split, because OpenVINO 2026.4 mistakes the channels of a slice before GatherElements
        logits = logits.softmax(2).split((classes, 1), 2)[0]
    # the best pairs belong to the best priors, which avoids sorting all pairs
    values, places = top(logits.amax(2), count)
    logits = torch.where(values[..., None].isinf(), values[..., None], take(logits, places))
    values, pairs = logits.flatten(1).topk(count)
    places = take(places, pairs // classes)
    scores = torch.where(values.isinf(), NO_BOX, values.sigmoid())
    if not head.use_sigmoid_cls:
        scores = torch.where(values.isinf(), NO_BOX, values)
    codes = take(codes.reshape(batch, -1, head.bbox_coder.encode_size), places)
    factors = [take(x, places).sigmoid() for x in factors]
    return priors[places], codes, scores, pairs % classes, *factors


def is_large(boxes: Tensor, cfg: ConfigDict) -> Tensor:
    """Return which boxes are larger than the smallest size in a test_cfg, (B, N)."""
    smallest = cfg.get('min_bbox_size', -1)
    extents = boxes[..., 2:] - boxes[..., :2]
    return (extents > (smallest if smallest >= 0 else -torch.inf)).all(2)
