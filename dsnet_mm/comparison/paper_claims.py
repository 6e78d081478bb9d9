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
    """Published figures of one detector.

    Attributes:
        box: Box AP in percent.
        mask: Mask AP in percent; None for a detector without masks.
        source: Who published them, and how they were derived if that is not literal.
    """

    box: float
    mask: float | None
    source: str


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
}


@dataclass(frozen=True)
class Claim:
    """A difference in AP which the paper claims, in percent points.

    Attributes:
        detector: The detector that both models are part of, with FPN and the schedule 1x.
        model: The model that is said to be better.
        baseline: The model it is compared with.
        figure: 'box' or 'mask'.
        points: The difference.
    """

    detector: str
    model: str
    baseline: str
    figure: str
    points: float


CLAIMS = (
    Claim('RetinaNet', 'DS-Net-S*', 'ResNet-50', 'box', 6.4),
    Claim('Mask R-CNN', 'DS-Net-S*', 'ResNet-50', 'box', 6.1),
    Claim('Mask R-CNN', 'DS-Net-S*', 'ResNet-50', 'mask', 5.5),
    Claim('Mask R-CNN', 'DS-Net-S*', 'Swin-T', 'mask', 0.4),
)
