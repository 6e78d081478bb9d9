"""The MLP of a DS-Block."""

from __future__ import annotations

import torch
from mmcv.cnn import build_activation_layer
from mmdet.utils import ConfigType
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .norms import conv_of_norm
from .ops import is_traced, stores_for_backward

LARGE_MAP = 8 * 2**20  # numbers; the C library asks the system anew for each larger float32 map
TILE = 2**20  # numbers that stay in the cache of a CPU


class ConvFFN(BaseModule):
    """Two 1x1 convolutions with an activation between them.

    Args:
        dims: Channels C of input and output.
        hidden_dims: Channels of the hidden map.
        act_cfg: Activation.
        recompute: Whether the backward pass recomputes the outputs of the norm and of the
            activation instead of storing them. Both are elementwise; no product runs twice.
    """

    def __init__(
        self, dims: int, hidden_dims: int, act_cfg: ConfigType, recompute: bool = True
    ) -> None:
        super().__init__()
        self.hidden_dims = hidden_dims
        self.recompute = recompute
        self.fc1 = nn.Conv2d(dims, hidden_dims, 1)
        self.act = build_activation_layer(act_cfg)
        self.fc2 = nn.Conv2d(hidden_dims, dims, 1)

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Return ``mlp(norm(x))``, (B, C, H, W) -> the same shape."""
        if self.in_tiles(x):
            x = norm(x)
            rows = max(1, TILE * x.shape[2] // self.hidden_size(x))
            return torch.cat([self.contract(self.fc1(tile)) for tile in x.split(rows, dim=2)], 2)
        if self.recompute and stores_for_backward() and not getattr(self.act, 'inplace', False):
            hidden = conv_of_norm(self.fc1, norm, x)
            return checkpoint(self.contract, hidden, use_reentrant=False)
        # no name for the hidden map, which would hold its memory until the end
        return self.fc2(self.act(conv_of_norm(self.fc1, norm, x, recompute=self.recompute)))

    def contract(self, hidden: Tensor) -> Tensor:
        """Apply the activation and the second convolution to the hidden map."""
        return self.fc2(self.act(hidden))

    def in_tiles(self, x: Tensor) -> bool:
        """Return whether to process a few rows at a time: a large map on a CPU, without gradients.

        The hidden map never exists as a whole.
        """
        return (
            x.device.type == 'cpu'
            and not torch.is_grad_enabled()
            and not is_traced()
            and self.hidden_size(x) > LARGE_MAP
        )

    def hidden_size(self, x: Tensor) -> int:
        """Return how many numbers the hidden map has."""
        batch, _, height, width = x.shape
        return batch * height * width * self.hidden_dims
