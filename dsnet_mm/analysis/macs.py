"""Count multiply-accumulates (MACs), attention included, without data and computation."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector, TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

NUM_PROPOSALS = 1000  # second-stage proposals of mmdet's two-stage detectors in testing
NUM_MASKS = 100  # regions that get a mask


@dataclass(frozen=True)
class Cost:
    """Hold a figure per part of a model; ``heads`` is all except backbone and neck."""

    backbone: int
    neck: int
    heads: int

    @property
    def whole(self) -> int:
        """Return the sum of the parts."""
        return self.backbone + self.neck + self.heads

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Return the figures of a table row: backbone, neck, heads and whole."""
        return self.backbone, self.neck, self.heads, self.whole


def count_parameters(model: BaseModel) -> Cost:
    """Count the parameters of a detector or classifier, including frozen parameters."""
    backbone, neck, whole = (
        sum(p.numel() for p in part.parameters()) if part else 0
        for part in (model.backbone, getattr(model, 'neck', None), model)
    )
    return Cost(backbone, neck, whole - backbone - neck)


def count_macs(function: Callable[..., Any], *inputs: Any) -> tuple[int, Any]:
    """Run ``function`` and count its MACs, which are half of PyTorch's FLOPs.

    As in most papers, MACs are those of convolutions and matrix products, attention included.
    Norms, activations, sums, softmax and resizing are not counted. Inputs and parameters on the
    ``meta`` device avoid all computation.

    Returns:
        The MACs, and the return value of ``function``.
    """
    with FlopCounterMode(display=False, custom_mapping=_cpu_attention()) as counter:
        outputs = function(*inputs)
    return counter.get_total_flops() // 2, outputs


def count_model_macs(model: BaseModel, height: int, width: int) -> Cost:
    """Count the MACs of a detector or classifier on one image of ``height`` x ``width`` pixels.

    The second stage of a two-stage detector gets 1000 proposals, and the mask head gets the first
    100. Decoding and NMS are not counted. Detectors that cannot run on the ``meta`` device, such as
    those with deformable attention, run once on the device of the model.
    """
    original = model
    model = deepcopy(model).to('meta', torch.float32).eval()
    image = torch.empty(1, 3, height, width, device='meta')
    samples = None
    if isinstance(model, BaseDetector):
        shapes = dict.fromkeys(('img_shape', 'batch_input_shape', 'pad_shape'), (height, width))
        samples = [DetDataSample(metainfo=dict(shapes, scale_factor=(1.0, 1.0)))]

    backbone, features = count_macs(model.backbone, image)
    neck = 0
    if getattr(model, 'neck', None):
        neck, features = count_macs(model.neck, features)
    if not isinstance(model, TwoStageDetector):
        try:
            whole, _ = count_macs(model, image, samples, 'tensor')
        except RuntimeError:  # the forward pass reads values of tensors
            model = deepcopy(original).float().eval()
            image = torch.rand(image.shape, device=next(model.parameters()).device)
            with torch.no_grad():
                whole, _ = count_macs(model, image, samples, 'tensor')
        return Cost(backbone, neck, whole - backbone - neck)

    first_stage, _ = count_macs(model.rpn_head, features) if model.with_rpn else (0, None)
    for module in model.modules():
        if isinstance(module, BaseRoIExtractor):
            module.forward = partial(_empty_rois, module)
    if type(model.roi_head) is CascadeRoIHead:  # masks all proposals, unlike StandardRoIHead
        model.roi_head._mask_forward = partial(_first_masks, model.roi_head._mask_forward)
    proposals = [InstanceData(bboxes=image.new_empty(NUM_PROPOSALS, 4))]
    second_stage, _ = count_macs(model.roi_head, features, proposals, samples)
    return Cost(backbone, neck, first_stage + second_stage)


def _empty_rois(extractor: BaseRoIExtractor, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
    """Replace a RoI extractor, which has no MACs and cannot run on ``meta``."""
    size = extractor.roi_layers[0].output_size
    return features[0].new_empty(len(rois), extractor.out_channels, *size)


def _first_masks(
    forward: Callable[..., dict[str, Tensor]],
    stage: int,
    features: tuple[Tensor, ...],
    rois: Tensor,
) -> dict[str, Tensor]:
    """Run the mask head of one stage on the first regions only."""
    masks = forward(stage, features, rois[:NUM_MASKS])['mask_preds']
    return dict(mask_preds=masks.new_empty(len(rois), *masks.shape[1:]))


def _cpu_attention() -> dict[Any, Callable[..., int]]:
    """Return the FLOP formula of fused CPU attention, which PyTorch's counter lacks."""
    name = '_scaled_dot_product_flash_attention_for_cpu'
    if not hasattr(torch.ops.aten, name):  # before torch 2.2
        return {}

    def flops(query: torch.Size, key: torch.Size, value: torch.Size, *_, **__) -> int:
        return sdpa_flop_count(query, key, value)

    return {getattr(torch.ops.aten, name): flops}
