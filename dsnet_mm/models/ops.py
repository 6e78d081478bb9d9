"""Reshape and resize feature maps, and recognize traced graphs.

Shapes: B batch, C channels, (H, W) a map's size in pixels, N = H * W tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def map_to_tokens(x: Tensor) -> Tensor:
    """Return a map (B, C, H, W) as tokens (B, N, C), a view if ``x`` is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Return tokens (B, N, C) as a map (B, C, H, W) of ``size`` (H, W), a channels-last view."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def split_heads(tokens: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split (B, N, 3 * D) into query, key and value, each a view (B, num_heads, N, D / num_heads).

    The channels are ordered by query, key, value, then by head.
    """
    q, k, v = tokens.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def merge_heads(tokens: Tensor) -> Tensor:
    """Concatenate the heads: (B, num_heads, N, d) -> (B, N, num_heads * d)."""
    return tokens.transpose(1, 2).flatten(2)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map bilinearly to ``size``, (height, width) in pixels."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


def grid_size(x: Tensor, stride: int) -> tuple[int, int]:
    """Return the size of a map divided by ``stride``, rounded down, but at least (1, 1)."""
    height, width = x.shape[2:]
    return at_least_one(height // stride), at_least_one(width // stride)


def at_least_one(number: int) -> int:
    """Return ``max(1, number)``; ``torch.jit`` traces ``number`` as a tensor."""
    return number.clamp(min=1) if isinstance(number, Tensor) else torch.sym_max(1, number)


def conv1x1_and_resize(
    x: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int], enlarges: bool
) -> Tensor:
    """Return ``resize(conv1x1(x), size)``, and run the convolution on the smaller map.

    A 1x1 convolution and a bilinear resize commute::

        resize(W x + b) = W resize(x) + b

    The resize computes each pixel as a weighted mean of pixels. The weights are the same for all
    channels, which the convolution mixes, and their sum is 1, which preserves the bias.

    Args:
        x: Map (B, C, H, W).
        weight: Weight of the convolution, (D, C, 1, 1).
        bias: Bias of the convolution, (D,), or None.
        size: Height and width of the result (B, D, height, width) in pixels.
        enlarges: Whether ``size`` is larger than the map. A traced graph cannot compare sizes.
    """
    if enlarges:
        return resize(F.conv2d(x, weight, bias), size)
    return F.conv2d(resize(x, size), weight, bias)


def is_traced() -> bool:
    """Return whether a graph is being recorded, so that a branch is taken once for all inputs."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def stores_for_backward() -> bool:
    """Return whether maps are stored for the backward pass; compilers decide that on their own."""
    return torch.is_grad_enabled() and not is_traced()
