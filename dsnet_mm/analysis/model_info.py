"""Count parameters and MACs of models, next to the figures of the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from dsnet_mm.models import DSNet, GLNet
from dsnet_mm.models.published import as_published
from dsnet_mm.models.staged_backbone import StagedBackbone

from .benchmark import Setting, prepare, workload
from .building import build_candidate, build_model
from .macs import Cost, count_macs, count_model_macs, count_parameters
from .memory import peak_memory

CLASSIFICATION_SIZE = 224, 224  # height and width in pixels
DETECTION_SIZE = 800, 1280
NUM_CLASSES = 1000
MEMORY_PARTS = dict(backbone='backbone', neck='neck', whole='detector', training='train')

# name -> how to build it, and the published M parameters and G MACs at 224x224
PAPERS: dict[str, tuple[Callable[[], StagedBackbone], float, float]] = {
    'DS-Net-T': (partial(DSNet, 'tiny', align=False), 9.1, 1.6),
    'DS-Net-T*': (partial(DSNet, 'tiny'), 10.5, 1.8),
    'DS-Net-S': (partial(DSNet, 'small', align=False), 19.7, 3.0),
    'DS-Net-S*': (partial(DSNet, 'small'), 23.0, 3.5),
    'DS-Net-B': (partial(DSNet, 'base', align=False), 48.8, 7.6),
    'DS-Net-B*': (partial(DSNet, 'base'), 49.3, 8.4),
    'GLNet-STL': (partial(GLNet, 'stl'), 30, 4.4),
    'GLNet-4G': (partial(GLNet, '4g'), 27, 4.5),
    'GLNet-9G': (partial(GLNet, '9g'), 60, 9.7),
    'GLNet-16G': (partial(GLNet, '16g'), 106, 16.7),
}


@dataclass(frozen=True)
class BackboneInfo:
    """Hold the cost of one of the models of the two papers.

    The classifier is counted at 224x224, as in the papers, and the backbone alone at 800x1280.
    MACs are given for the published formulation and for the execution in this project.
    """

    name: str
    paper_parameters: float  # in millions
    paper_macs: float  # in billions
    parameters: int
    published_macs: int
    executed_macs: int
    backbone_parameters: int
    backbone_published_macs: int
    backbone_executed_macs: int


@dataclass(frozen=True)
class ModelInfo:
    """Hold the cost of a detector or classifier on an image of ``height`` x ``width`` pixels."""

    name: str
    height: int
    width: int
    parameters: Cost
    published_macs: Cost
    executed_macs: Cost


@dataclass(frozen=True)
class MemoryInfo:
    """Hold peak memory in bytes beyond model and input, for one ``height`` x ``width`` image.

    ``backbone`` and ``neck`` are forward passes, ``whole`` is a prediction, and ``training`` is a
    forward and backward pass of the loss, including the gradients of the weights.
    """

    name: str
    height: int
    width: int
    backbone: int
    neck: int
    whole: int
    training: int


class Classifier(nn.Module):
    """Classify as in the paper: backbone, BatchNorm, global average pooling, linear layer."""

    def __init__(self, backbone: StagedBackbone, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        width = backbone.out_channels[-1]
        self.backbone = backbone
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to scores (B, num_classes)."""
        return self.head(self.norm(self.backbone(x)[-1]).mean(dim=(2, 3)))


def describe_backbone(name: str) -> BackboneInfo:
    """Count parameters and MACs of one of the models in :data:`PAPERS`."""
    build, paper_parameters, paper_macs = PAPERS[name]
    with torch.device('meta'):
        executed = Classifier(build()).eval()
    published = deepcopy(executed)
    as_published(published)
    return BackboneInfo(
        name=name,
        paper_parameters=paper_parameters,
        paper_macs=paper_macs,
        parameters=sum(p.numel() for p in executed.parameters()),
        published_macs=_macs(published, CLASSIFICATION_SIZE),
        executed_macs=_macs(executed, CLASSIFICATION_SIZE),
        backbone_parameters=sum(p.numel() for p in executed.backbone.parameters()),
        backbone_published_macs=_macs(published.backbone, DETECTION_SIZE),
        backbone_executed_macs=_macs(executed.backbone, DETECTION_SIZE),
    )


def describe_config(config: str | Path, size: tuple[int, int] = DETECTION_SIZE) -> ModelInfo:
    """Count parameters and MACs of the model of a config.

    Args:
        config: Config of a detector or classifier, see :func:`~.building.build_model`.
        size: Height and width of the image in pixels.

    Raises:
        UserError: If no model with a backbone can be built from the config.
    """
    model = build_model(config)
    parameters = count_parameters(model)
    executed = count_model_macs(model, *size)
    published = count_model_macs(as_published(model), *size)
    return ModelInfo(Path(config).stem, *size, parameters, published, executed)


def describe_memory(config: str | Path, size: tuple[int, int] = DETECTION_SIZE) -> MemoryInfo:
    """Measure the peak memory of a detector on a CPU in float32, see :func:`~.memory.peak_memory`.

    Raises:
        UserError: If no model with a backbone can be built from the config.
    """
    model, peaks = build_candidate(str(config)), {}
    for figure, part in MEMORY_PARTS.items():
        setting = Setting(part, *size)
        peaks[figure] = peak_memory(workload(prepare(model, setting), setting))
    return MemoryInfo(Path(config).stem, *size, **peaks)


def _macs(model: Callable[[Tensor], Tensor | Sequence[Tensor]], size: tuple[int, int]) -> int:
    return count_macs(model, torch.empty(1, 3, *size, device='meta'))[0]
