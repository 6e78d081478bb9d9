"""Faster R-CNN, Mask R-CNN and Cascade R-CNN for graphs, as mmdet computes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.model import BaseModel
from torch import Tensor, nn

from .detector_graphs import Detector, candidates, clip_if, is_large, keeps
from .part import Axes
from .postprocessing import NO_BOX, RoIAlignOperator, Suppression, enlarge, take

ROI_STEPS = ['predict', 'predict_bbox', 'predict_mask', '_bbox_forward', '_mask_forward']


class TwoStageGraph(Detector):
    """A two-stage detector with RPN, RoIAlign, NMS and, where the model has them, masks."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__(model, model.roi_head.test_cfg)
        self.rpn_nms = Suppression(model.rpn_head.test_cfg)
        heads = model.roi_head
        self.stages = list(zip(_listed(heads.bbox_roi_extractor), _listed(heads.bbox_head)))
        self.mask_stages: list[tuple[Any, Any]] = []
        if heads.with_mask:
            self.mask_stages = list(
                zip(_listed(heads.mask_roi_extractor), _listed(heads.mask_head))
            )
            self.facts['mask_thr_binary'] = json.dumps(heads.test_cfg.mask_thr_binary)

    @staticmethod
    def accepts(model: BaseModel) -> bool:
        """Return whether a model is such a detector, with mmdet's postprocessing."""
        heads: Any = getattr(model, 'roi_head', None)
        base: type = StandardRoIHead
        steps = ROI_STEPS
        if isinstance(heads, CascadeRoIHead):
            base, steps = CascadeRoIHead, [*ROI_STEPS, '_refine_roi']
        if not (
            keeps(model, TwoStageDetector, 'predict')
            and keeps(heads, base, *steps)
            and type(getattr(model, 'rpn_head', None)) is RPNHead
            and not heads.with_shared_head
        ):
            return False
        extractors, boxes = _listed(heads.bbox_roi_extractor), _listed(heads.bbox_head)
        masks = _listed(heads.mask_head) if heads.with_mask else []
        if heads.with_mask:
            extractors = [*extractors, *_listed(heads.mask_roi_extractor)]
        decoding = ('predict_by_feat', '_predict_by_feat_single')
        return (
            all(_is_usual_extractor(extractor) for extractor in extractors)
            and all(keeps(head, BBoxHead, *decoding, 'regress_by_class') for head in boxes)
            and not any(head.custom_activation for head in boxes)
            and all(keeps(head, FCNMaskHead, *decoding) for head in masks)
        )

    def outputs(self, images: Tensor) -> Axes:
        """Return the names of the outputs and of their dynamic axes."""
        return {**super().outputs(images), **({'masks': {0: 'batch'}} if self.mask_stages else {})}

    def detect(
        self, maps: Sequence[Tensor], resized_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, ...]:
        """Propose boxes, classify and correct them, select the best, and draw their masks."""
        proposals, is_proposal = self._propose(maps, resized_sizes)
        boxes, scores = self._classify(maps, proposals, resized_sizes)
        if not self.mask_stages:  # mmdet runs NMS in pixels of the original images, or not
            boxes = enlarge(boxes, resized_sizes, original_sizes)
        kept = (scores > self.score_thr) & is_proposal[..., None]
        labels = torch.arange(scores.shape[2], device=boxes.device).expand_as(scores)
        boxes, scores, labels = self.select(
            boxes, torch.where(kept, scores, NO_BOX).flatten(1), labels.flatten(1)
        )
        if not self.mask_stages:
            return boxes, scores, labels
        masks = self._masks(maps, boxes, labels)
        return enlarge(boxes, resized_sizes, original_sizes), scores, labels, masks

    def _propose(self, maps: Sequence[Tensor], resized_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return proposals (B, P, 4) of the RPN, and which of them hold a box, (B, P)."""
        head = self.model.rpn_head
        boxes, scores, labels, _ = candidates(head, head(maps), head.test_cfg)
        boxes = clip_if(head, boxes, resized_sizes)
        scores = torch.where(is_large(boxes, head.test_cfg), scores, NO_BOX)
        levels = torch.arange(scores.shape[1], device=boxes.device) // head.test_cfg.nms_pre
        best, places = self.rpn_nms(boxes, scores, levels.expand_as(scores))
        return take(boxes, places), best > NO_BOX

    def _classify(
        self, maps: Sequence[Tensor], proposals: Tensor, resized_sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return boxes (B, P * classes, 4) and scores (B, P, classes) of proposals (B, P, 4)."""
        batch, number = proposals.shape[:2]
        images = torch.arange(batch, device=proposals.device)[:, None].expand(-1, number)
        boxes, logits = proposals, []
        for index, (extractor, head) in enumerate(self.stages):
            rois = boxes.reshape(-1, 4)
            scores, codes = head(roi_features(extractor, maps, rois, images.reshape(-1)))
            logits.append(scores)
            classes = scores.shape[1] - 1
            codes = codes.reshape(-1, 1 if head.reg_class_agnostic else classes, 4)
            if index < len(self.stages) - 1:  # correct the boxes of the likeliest class
                classes = 1
                if not head.reg_class_agnostic:
                    likely = scores[:, :-1].argmax(1)[:, None, None]
                    codes = codes.gather(1, likely.expand(-1, 1, 4))
            rois = rois[:, None].expand(-1, classes, -1).reshape(-1, 4)
            codes = codes.expand(-1, classes, -1).reshape(-1, 4)
            boxes = head.bbox_coder.decode(rois, codes).reshape(batch, -1, 4)
            boxes = clip_if(head, boxes, resized_sizes)
        scores = (sum(logits) / len(logits)).softmax(1)[:, :-1]
        return boxes, scores.reshape(batch, number, -1)

    def _masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Return masks (B, N, h, w), zero in places without a box, which cost no time."""
        batch, number = labels.shape
        filled = (labels.reshape(-1) >= 0).nonzero()[:, 0]
        rois, kinds = boxes.reshape(-1, 4)[filled], labels.reshape(-1)[filled]
        images = filled // number
        stages = []
        for extractor, head in self.mask_stages:
            masks = head(roi_features(extractor, maps, rois, images))
            if not head.class_agnostic:
                kinds_ = kinds[:, None, None, None].expand(-1, 1, *masks.shape[2:])
                masks = masks.gather(1, kinds_)
            stages.append(masks[:, 0].sigmoid())
        masks = sum(stages) / len(stages)
        height, width = map(int, masks.shape[1:])  # constants
        empty = masks.new_zeros(batch * number, height * width)
        places = filled[:, None].expand(-1, height * width)
        return empty.scatter(0, places, masks.flatten(1)).reshape(-1, self.nms.most, height, width)


def roi_features(extractor: Any, maps: Sequence[Tensor], boxes: Tensor, images: Tensor) -> Tensor:
    """Return features (K, C, h, w) of boxes (K, 4) on the images (K,), each from its level."""
    rois = torch.cat((images[:, None].to(boxes), boxes), 1)
    levels = extractor.map_roi_levels(rois, extractor.num_inputs)
    parts, places = [], []
    for level, layer in enumerate(extractor.roi_layers):
        here = (levels == level).nonzero()[:, 0]
        settings = layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
        parts.append(RoIAlignOperator.apply(maps[level], boxes[here], images[here], *settings))
        places.append(here)
    order = torch.cat(places)
    inverse = torch.zeros_like(order).scatter(0, order, torch.arange(order.shape[0]).to(order))
    return torch.cat(parts)[inverse]


def _is_usual_extractor(extractor: Any) -> bool:
    return type(extractor) is SingleRoIExtractor and all(
        isinstance(layer, RoIAlign) and layer.pool_mode == 'avg' for layer in extractor.roi_layers
    )


def _listed(modules: Any) -> list[Any]:
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]
