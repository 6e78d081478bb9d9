"""Published figures of the compared detectors, each with its source.

All figures are AP in percent on COCO val2017, and none was measured by this project.
"""

from __future__ import annotations

from dataclasses import dataclass

MMDET = 'metafiles of mmdet 3.3.0'
PAPER = 'DS-Net paper, arXiv 2105.14734'
SWIN = 'the README of SwinTransformer/Swin-Transformer-Object-Detection, trained multi-scale'


@dataclass(frozen=True)
class Published:
    """Published figures of one detector."""

    box: float  # box AP in percent
    mask: float | None  # mask AP in percent; None for a detector without masks
    source: str  # who published them, and how they were derived if that is not literal


# (detector, model, schedule), all with the neck FPN
PUBLISHED: dict[tuple[str, str, str], Published] = {
    ('RetinaNet', 'ResNet-50', '1x'): Published(36.5, None, MMDET),
    ('RetinaNet', 'Swin-T', '1x'): Published(
        41.5, None, 'third parties that trained it with AdamW, which mmdet does not'
    ),
    ('RetinaNet', 'DS-Net-S*', '1x'): Published(
        42.9, None, f"{PAPER}: ResNet-50 + 6.4, added to mmdet's 36.5"
    ),
    ('Mask R-CNN', 'ResNet-50', '1x'): Published(38.2, 34.7, MMDET),
    ('Mask R-CNN', 'Swin-T', '1x'): Published(42.7, 39.3, f'{MMDET}; 43.7 and 39.8 in {SWIN}'),
    ('Mask R-CNN', 'DS-Net-S*', '1x'): Published(
        44.3, 40.2, f"{PAPER}: mask AP as printed; box AP ResNet-50 + 6.1, added to mmdet's 38.2"
    ),
    ('Mask R-CNN', 'ResNet-50', '3x multi-scale'): Published(
        40.9, 37.1, f'{MMDET}, with shorter sides from 640 on'
    ),
    ('Mask R-CNN', 'Swin-T', '3x multi-scale'): Published(
        46.0, 41.6, f'{MMDET}, with random crops'
    ),
    ('Cascade Mask R-CNN', 'ResNet-50', '3x multi-scale'): Published(
        44.3, 38.5, f"{MMDET}, with mmdet's box heads and shorter sides from 640 on"
    ),
    ('Cascade Mask R-CNN', 'Swin-T', '3x multi-scale'): Published(
        50.4, 43.7, f'{SWIN}, with random crops'
    ),
}


@dataclass(frozen=True)
class Claim:
    """A difference in AP which the paper claims, in percent points."""

    detector: str  # the detector that both models are part of, with FPN and the schedule 1x
    model: str  # the model that is said to be better
    baseline: str  # the model that is said to be worse
    figure: str  # 'box' or 'mask'
    points: float


CLAIMS = (
    Claim('RetinaNet', 'DS-Net-S*', 'ResNet-50', 'box', 6.4),
    Claim('Mask R-CNN', 'DS-Net-S*', 'ResNet-50', 'box', 6.1),
    Claim('Mask R-CNN', 'DS-Net-S*', 'ResNet-50', 'mask', 5.5),
    Claim('Mask R-CNN', 'DS-Net-S*', 'Swin-T', 'mask', 0.4),
)
