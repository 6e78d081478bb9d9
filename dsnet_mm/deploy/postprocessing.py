"""mmdet's postprocessing for whole batches, with the operators that ONNX has.

Places without a box have score -1 until the graph's end, because their number depends on the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import nms, roi_align
from mmengine.config import ConfigDict
from torch import Tensor
from torch.autograd import Function

from dsnet_mm.errors import UserError

NO_BOX = -1.0


class _NonMaxSuppression(Function):
    """ONNX's operator of this name, of one class; its counterpart in PyTorch is mmcv's."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
        found = []
        for image, (sides, score) in enumerate(zip(boxes, scores[:, 0])):
            filled = (score > NO_BOX / 2).nonzero()[:, 0]
            _, kept = nms(sides[filled], score[filled], iou)
            places = filled[kept[:most]]
            found.append(F.pad(places[:, None], (2, 0)))
            found[-1][:, 0] = image
        return torch.cat(found)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, most: int) -> Any:
        limits = [torch.tensor([most]), torch.tensor([iou]), torch.tensor([NO_BOX / 2])]
        constants = [g.op('Constant', value_t=limit) for limit in limits]
        return g.op('NonMaxSuppression', boxes, scores, *constants)


class RoIAlignOperator(Function):
    """ONNX's operator RoiAlign; its counterpart in PyTorch is mmcv's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, boxes: Tensor, images: Tensor, size: tuple[int, int],
                scale: float, samples: int, aligned: bool) -> Tensor:  # fmt: skip
        rois = torch.cat((images[:, None].to(boxes), boxes), 1)
        return roi_align(x, rois, size, scale, samples, 'avg', aligned)

    @staticmethod
    def symbolic(g: Any, x: Any, boxes: Any, images: Any, size: tuple[int, int],
                 scale: float, samples: int, aligned: bool) -> Any:  # fmt: skip
        return g.op(
            'RoiAlign',
            x,
            boxes,
            images,
            coordinate_transformation_mode_s='half_pixel' if aligned else 'output_half_pixel',
            output_height_i=size[0],
            output_width_i=size[1],
            sampling_ratio_i=samples,
            spatial_scale_f=scale,
        )


@dataclass
class Suppression:
    """NMS with the settings of a test_cfg.

    Args:
        cfg: The test_cfg, with ``nms`` and ``max_per_img``.

    Raises:
        UserError: If the test_cfg asks for another kind of NMS.
    """

    cfg: ConfigDict

    def __post_init__(self) -> None:
        if self.cfg.get('nms_pre', 1) < 1:
            raise UserError('the test_cfg has no limit nms_pre; set nms_pre=1000')
        settings = dict(self.cfg.get('nms') or {})
        self.most = self.cfg.get('max_per_img', -1)
        self.agnostic = settings.pop('class_agnostic', False)
        self.iou = settings.pop('iou_threshold', None)
        settings.pop('split_thr', None)  # which changes no result
        if settings.pop('type', 'nms') != 'nms' or settings or self.iou is None or self.most < 1:
            raise UserError(
                f'the test_cfg has nms={dict(self.cfg.get("nms") or {})} and '
                f'max_per_img={self.most}, but a graph holds plain NMS only; set '
                "nms=dict(type='nms', iou_threshold=0.5) and max_per_img=100, or pass --what neck"
            )

    def __call__(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Select the best boxes, as mmcv's batched_nms does.

        Args:
            boxes: (B, N, 4).
            scores: (B, N), :data:`NO_BOX` where no box is.
            groups: (B, N), boxes of different groups do not suppress each other.

        Returns:
            Scores (B, M), highest first, and the places (B, M) of these boxes. M is max_per_img.
        """
        shifted = boxes
        if not self.agnostic:
            filled = (scores > NO_BOX).to(boxes)
            side = (boxes * filled[..., None]).flatten(1).amax(1) + 1
            shifted = boxes + (groups.to(boxes) * side[:, None])[..., None]
        kept = _NonMaxSuppression.apply(shifted, scores[:, None], self.iou, self.most)
        flat = scores.reshape(-1)
        places = kept[:, 0] * scores.shape[1] + kept[:, 2]
        marks = torch.zeros_like(flat).scatter(0, places, 1.0)
        return top(torch.where(marks > 0, flat, NO_BOX).reshape(scores.shape), self.most, NO_BOX)


def top(x: Tensor, count: int, filling: float = -torch.inf) -> tuple[Tensor, Tensor]:
    """Return the ``count`` highest values of each row, padded with ``filling``, and their places.

    The count does not depend on the image, which keeps the shapes behind it constant.
    """
    values, places = F.pad(x, (0, count), value=filling).topk(count)
    return values, places.clamp(max=x.shape[1] - 1)


def take(x: Tensor, places: Tensor) -> Tensor:
    """Return the elements of rows: (B, N) or (B, N, C) at places (B, K)."""
    if x.ndim == 2:
        return x.gather(1, places)
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))


def sides(sizes: Tensor) -> Tensor:
    """Heights and widths (B, 2) -> the largest boxes (B, 1, 4), as width, height, width, height."""
    return sizes.flip(1).repeat(1, 2)[:, None]


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip boxes (B, N, 4) to images of the sizes (B, 2)."""
    return torch.minimum(boxes.clamp(min=0), sides(sizes).to(boxes))


def enlarge(boxes: Tensor, sizes: Tensor, original: Tensor) -> Tensor:
    """Scale boxes (B, N, 4) from resized images to original ones, both sizes (B, 2)."""
    return boxes * (sides(original).to(boxes) / sides(sizes).to(boxes))
