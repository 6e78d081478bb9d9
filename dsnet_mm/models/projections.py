"""The two 1x1 convolutions between a feature map and the two streams of a DS-Block.

Both compute the global channels on the small grid. A module that replaces one of them, such as an
adapter, is called as any convolution: with one map at full resolution.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .ops import conv1x1_and_resize


class InProjection(nn.Conv2d):
    """The 1x1 convolution that makes the two streams; its first output channels are global.

    Args:
        local_dims: Channels C_l of the local stream.
        global_dims: Channels C_g of the global stream.
    """

    bias: nn.Parameter

    def __init__(self, local_dims: int, global_dims: int) -> None:
        super().__init__(local_dims + global_dims, local_dims + global_dims, 1)
        self.global_dims, self.local_dims = global_dims, local_dims

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Any:
        """Project a map, and split it into streams if ``grid`` is not None.

        Args:
            x: Map (B, C, H, W).
            grid: Size (h, w) of the global stream.

        Returns:
            The projected map (B, C, H, W); with ``grid`` the local stream (B, C_l, H, W) and the
            global stream (B, C_g, h, w), or None for a stream without channels.
        """
        if grid is None:
            return super().forward(x)
        cut, local, global_ = self.global_dims, None, None
        # slices, not split(), because the exporter to ONNX folds them into constants
        if self.global_dims:
            weight, bias = self.weight[:cut], self.bias[:cut]
            global_ = conv1x1_and_resize(x, weight, bias, grid, enlarges=False)
        if self.local_dims:  # last, where recomputation of a norm ends
            local = F.conv2d(x, self.weight[cut:], self.bias[cut:])
        return local, global_


class OutProjection(nn.Conv2d):
    """The 1x1 convolution that fuses the two streams; its first input channels are local.

    Args:
        local_dims: Channels C_l of the local stream.
        global_dims: Channels C_g of the global stream.
    """

    def __init__(self, local_dims: int, global_dims: int) -> None:
        super().__init__(local_dims + global_dims, local_dims + global_dims, 1)
        self.local_dims = local_dims

    def forward(self, x: Tensor, global_: Tensor | None = None) -> Tensor:
        """Fuse two streams to (B, C, H, W), or project one map if ``global_`` is None.

        Args:
            x: Local stream (B, C_l, H, W); without ``global_`` a map of all channels.
            global_: Global stream (B, C_g, h, w).
        """
        if global_ is None:
            return super().forward(x)
        weight = self.weight[:, self.local_dims :]
        local = F.conv2d(x, self.weight[:, : self.local_dims], self.bias)
        return local + conv1x1_and_resize(global_, weight, None, x.shape[2:], enlarges=True)
