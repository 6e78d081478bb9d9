"""What every exported part of a model has in common."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

Size = tuple[int, int]
Axes = dict[str, dict[int, str]]

IMAGE_AXES = {0: 'batch', 2: 'height', 3: 'width'}


class Part(nn.Module):
    """A part of a model whose forward pass is recorded as a graph.

    Attributes:
        format: What the outputs are, for the runtime: 'maps', 'raw' or 'detections'.
        facts: What else the runtime needs to know, as strings by name.
        inputs: Names of the inputs and of their dynamic axes.
    """

    format: ClassVar[str]
    inputs: ClassVar[Axes] = {'images': IMAGE_AXES}

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, str] = {}

    @property
    def backbone(self) -> nn.Module:
        """The backbone, which decides whether the graph accepts any image size."""
        raise NotImplementedError

    def example(self, batch: int, size: Size) -> tuple[Tensor, ...]:
        """Return random inputs of a batch size and an image size."""
        return (torch.randn(batch, 3, *size),)

    def outputs(self, images: Tensor) -> Axes:
        """Return the names of the outputs and of their dynamic axes."""
        raise NotImplementedError
