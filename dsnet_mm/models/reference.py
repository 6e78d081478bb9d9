"""The DS-Block as the paper writes it. Read this file first.

"Dual-stream Network for Visual Recognition", https://arxiv.org/abs/2105.14734. The order of
channels and the resizing, which the paper leaves open, follow SteveTsui/DS-Net and PaddleClas.

:mod:`.ds_block` computes the same seven steps faster and with less memory. The tests compare both.
Here 1x1 convolutions run at full resolution, attention maps are in memory, and maps are NCHW.

Shapes: B batch, C channels, (H, W) the full resolution, (h, w) the global grid, N = h * w.
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from .ds_block import DSBlock, GlobalPropagation, InterScaleAlignment


def ds_block(block: DSBlock, x: Tensor) -> Tensor:
    """Apply the DS-Block with the parameters of ``block``: (B, C, H, W) -> the same shape."""
    local_dims, global_dims = block.stream_dims
    size = height, width = x.shape[2:]
    grid = max(1, height // block.grid_stride), max(1, width // block.grid_stride)
    if block.max_grid_cells is not None:  # a decision of this project, for large images
        grid = at_most(grid, block.max_grid_cells)

    # 1. Encode positions by a depthwise 3x3 convolution.
    x = x + block.pos_embed(x)

    # 2. Project, and split the channels into a global and a local stream.
    global_, local = block.in_proj(block.norm1(x)).split([global_dims, local_dims], dim=1)

    # 3. Propagate the local stream within its scale: a depthwise 3x3 convolution.
    if block.local_prop is not None:
        local = local + block.local_prop.conv(block.local_prop.norm(local))

    # 4. Propagate the global stream within its scale: self-attention on a small grid.
    layer = block.global_prop
    if layer is not None:
        tokens = to_tokens(resize(global_, grid))
        tokens = tokens + attention(layer, *layer.qkv(layer.norm(tokens)).chunk(3, dim=-1))

        # 5. Align the streams across scales: cross-attention from each to the other.
        if block.alignment is not None:
            local, tokens = align(block.alignment, local, tokens)
        global_ = resize(to_map(tokens, grid), size)

    # 6. Fuse the streams at full resolution.
    x = x + block.drop_path(block.out_proj(torch.cat([local, global_], dim=1)))

    # 7. Apply the MLP.
    if block.ffn is not None and block.norm2 is not None:
        x = x + block.drop_path(block.ffn.fc2(block.ffn.act(block.ffn.fc1(block.norm2(x)))))
    return x


def at_most(grid: tuple[int, int], cells: int) -> tuple[int, int]:
    """Return a grid of at most ``cells`` cells: make a larger one coarser, of about equal shape."""
    height, width = grid
    if height * width <= cells:
        return grid
    sides = isqrt(cells * height // width), isqrt(cells * width // height)
    return min(cells, max(1, sides[0])), min(cells, max(1, sides[1]))


def align(layer: InterScaleAlignment, local: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Let each stream attend to the other: (B, C_l, H, W), (B, N, C_g) -> the same two shapes."""
    q_l, k_l, v_l = to_tokens(layer.qkv_local(layer.norm_local(local))).chunk(3, dim=-1)
    q_g, k_g, v_g = layer.qkv_global(layer.norm_global(tokens)).chunk(3, dim=-1)
    to_local = layer.proj_local(attention(layer, q_l, k_g, v_g))
    to_global = layer.proj_global(attention(layer, q_g, k_l, v_l))
    return local + to_map(to_local, local.shape[2:]), tokens + to_global


def attention(
    layer: GlobalPropagation | InterScaleAlignment, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Compute ``softmax(q k^T / sqrt(d)) v`` in heads of width d, on tokens (B, N, C)."""
    q, k, v = (x.unflatten(2, (layer.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)
    weights = F.dropout(weights, layer.attn_drop_rate, training=layer.training)
    return (weights @ v).transpose(1, 2).flatten(2)


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize a map bilinearly to ``size``, (height, width) in pixels."""
    return F.interpolate(x, size, mode='bilinear', align_corners=False)


def to_tokens(x: Tensor) -> Tensor:
    """Return a map (B, C, H, W) as tokens (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return tokens (B, H * W, C) as a contiguous map (B, C, H, W)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)
