"""Parts of models without postprocessing: feature maps, and the boxes of all anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox
from mmengine.model import BaseModel
from torch import Tensor, nn

from .part import IMAGE_AXES, Axes, Part


class Maps(Part):
    """Images (B, 3, H, W) -> the outputs of a model's backbone, or of the neck behind it."""

    format = 'maps'

    def __init__(self, model: BaseModel, with_neck: bool) -> None:
        super().__init__()
        self.stages = model.backbone
        self.neck = model.neck if with_neck else None

    @property
    def backbone(self) -> nn.Module:
        """The backbone."""
        return self.stages

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, finest first, (B, C_i, H_i, W_i) each."""
        maps = self.stages(images)
        return maps if self.neck is None else self.neck(maps)

    def outputs(self, images: Tensor) -> Axes:
        """Return the names of the outputs and of their dynamic axes."""
        with torch.no_grad():
            ranks = [x.ndim for x in self(images)]
        return {
            f'map{i}': {axis: f'{name}{i}' for axis, name in IMAGE_AXES.items() if axis < rank}
            for i, rank in enumerate(ranks)
        }


class DecodedRetinaNet(Part):
    """Images (B, 3, H, W) -> all boxes of a RetinaNet and their scores, before NMS."""

    format = 'raw'

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    @property
    def backbone(self) -> nn.Module:
        """The backbone."""
        return self.model.backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect objects.

        Args:
            images: (B, 3, H, W), normalized as the model's data preprocessor does it.

        Returns:
            Boxes (B, N, 4) as left, top, right, bottom in pixels of ``images``, clipped to them
            where the model does so, and scores (B, N, classes) within 0 and 1. N grows with the
            images: one box for each anchor.
        """
        # torch.jit takes sizes for constants that it cannot trace back to the input
        batch, _, height, width = images.shape
        head = self.model.bbox_head
        coder = head.bbox_coder
        logits, deltas = head(self.model.extract_feat(images))
        priors = head.prior_generator.grid_priors(
            [level.shape[2:] for level in logits], dtype=images.dtype, device=images.device
        )
        boxes = delta2bbox(
            torch.cat(priors).repeat(batch, 1),
            _by_anchor(deltas, batch, 4).reshape(-1, 4),
            coder.means,
            coder.stds,
            add_ctr_clamp=coder.add_ctr_clamp,
            ctr_clamp=coder.ctr_clamp,
        ).reshape(batch, -1, 4)
        if coder.clip_border:
            limits = (width, height, width, height)
            sides = [side.clamp(0, limit) for side, limit in zip(boxes.unbind(2), limits)]
            boxes = torch.stack(sides, 2)
        return boxes, _by_anchor(logits, batch, head.cls_out_channels).sigmoid()

    def outputs(self, images: Tensor) -> Axes:
        """Return the names of the outputs and of their dynamic axes."""
        return {name: {0: 'batch', 1: 'anchors'} for name in ('boxes', 'scores')}


def _by_anchor(levels: Sequence[Tensor], batch: int, width: int) -> Tensor:
    """Maps (B, anchors * width, H_i, W_i) of all levels -> (B, N, width)."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(batch, -1, width) for x in levels], 1)
