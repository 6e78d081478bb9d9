"""The two 1x1 convolutions between a feature map and the two streams of a DS-Block.

Both compute the global channels on the small grid. A module that replaces one of them, such as an
adapter, is called as any convolution: with one map at full resolution.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .ops import conv1x1_and_resize


class InProjection(nn.Conv2d):
    """The 1x1 convolution that makes the two streams; its first output channels are global.

    Args:
        local_dims: Channels C_l of the local stream.
        global_dims: Channels C_g of the global stream.
    """

    def __init__(self, local_dims: int, global_dims: int) -> None:
        super().__init__(local_dims + global_dims, local_dims + global_dims, 1)
        self.splits = [global_dims, local_dims]

    def forward(
        self, x: Tensor, grid: tuple[int, int] | None = None
    ) -> Tensor | tuple[Tensor | None, Tensor | None]:
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
        global_dims, local_dims = self.splits
        global_weight, local_weight = self.weight.split(self.splits)
        global_bias, local_bias = self.bias.split(self.splits)
        local = global_ = None
        if global_dims:
            global_ = conv1x1_and_resize(x, global_weight, global_bias, grid, enlarges=False)
        if local_dims:  # last, where recomputation of a norm ends
            local = F.conv2d(x, local_weight, local_bias)
        return local, global_


class OutProjection(nn.Conv2d):
    """The 1x1 convolution that fuses the two streams; its first input channels are local.

    Args:
        local_dims: Channels C_l of the local stream.
        global_dims: Channels C_g of the global stream.
    """

    def __init__(self, local_dims: int, global_dims: int) -> None:
        super().__init__(local_dims + global_dims, local_dims + global_dims, 1)
        self.splits = [local_dims, global_dims]

    def forward(
        self,
        x: Tensor | None,
        global_: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Fuse two streams, or project their concatenation if ``size`` is None.

        Args:
            x: Local stream (B, C_l, H, W), None without local channels; without ``size`` the
                concatenated streams (B, C, H, W).
            global_: Global stream (B, C_g, h, w), None without global channels.
            size: The full resolution (H, W).

        Returns:
            (B, C, H, W).
        """
        if size is None:
            return super().forward(x)
        local_weight, global_weight = self.weight.split(self.splits, dim=1)
        if x is None:
            return conv1x1_and_resize(global_, global_weight, self.bias, size, enlarges=True)
        local = F.conv2d(x, local_weight, self.bias)
        if global_ is None:
            return local
        return local + conv1x1_and_resize(global_, global_weight, None, size, enlarges=True)
