"""Reshape and resize feature maps, and recognize traced graphs.

Shapes: B batch, C channels, (H, W) a map's size in pixels, N = H * W tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def map_to_tokens(x: Tensor) -> Tensor:
    """Return a map (B, C, H, W) as tokens (B, N, C), a view if ``x`` is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_to_map(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
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


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize a map bilinearly to ``size``, (height, width) in pixels."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


def grid_size(x: Tensor, stride: int, max_cells: int | None = None) -> tuple[int, int]:
    """Return the size of a map divided by ``stride``, rounded down, but at least (1, 1).

    A grid of more than ``max_cells`` cells becomes coarser by about the same factor along both
    sides. If one side reaches 1, the other has at most ``max_cells`` cells.
    """
    height, width = (at_least_one(side // stride) for side in x.shape[2:])
    if max_cells is None:
        return height, width
    return shortened(height, width, max_cells), shortened(width, height, max_cells)


def shortened(side: int, other: int, max_cells: int) -> int:
    """Return a side of a grid that has at most ``max_cells`` cells, see :func:`grid_size`.

    A grid of exactly ``max_cells`` cells with the same aspect ratio has the side
    ``sqrt(max_cells * side / other)``. Integer division before the root avoids rounding errors.
    """
    square = max_cells * side // other
    if isinstance(side, Tensor):  # as in at_least_one
        return torch.minimum(side, square.double().sqrt().long()).clamp(1, max_cells)
    longest = torch.sym_min(side, max_cells)
    return at_least_one(torch.sym_min(longest, torch.sym_int(math.sqrt(square))))


def at_least_one(number: int) -> int:
    """Return ``max(1, number)``; ``torch.jit`` traces ``number`` as a tensor."""
    return number.clamp(min=1) if isinstance(number, Tensor) else torch.sym_max(1, number)


def conv1x1_and_resize(
    x: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, ...], enlarges: bool
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


def pool_windows(x: Tensor, count: int) -> Tensor:
    """Average ``count`` windows along each side: (B, C, H, W) -> (B, C, count, count).

    Window i over a side of n pixels is from ``floor(i * n / count)`` to ``ceil((i + 1) * n /
    count)``, as in PyTorch's adaptive average pooling. That has no counterpart in ONNX for free
    sides, so a graph gets two matrix products.
    """
    if not torch.jit.is_tracing():
        return F.adaptive_avg_pool2d(x, count)
    rows, columns = (window_matrix(side, count, x) for side in x.shape[2:])
    return rows @ x @ columns.t()


def window_matrix(side: int, count: int, like: Tensor) -> Tensor:
    """Return the weights (count, side) of the pixels of a side in each window."""
    window = torch.arange(count, device=like.device).unsqueeze(1)
    start = window * side // count
    end = ((window + 1) * side + count - 1) // count
    pixel = torch.arange(side, device=like.device)
    return ((pixel >= start) & (pixel < end)).to(like.dtype) / (end - start)


def is_traced() -> bool:
    """Return whether a graph is being recorded, so that a branch is taken once for all inputs."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def stores_for_backward() -> bool:
    """Return whether maps are stored for the backward pass; compilers decide that on their own."""
    return torch.is_grad_enabled() and not is_traced()
