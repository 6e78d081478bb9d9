"""The published formulation of DS-Net, as an oracle, as the paper's cost and as a baseline.

:mod:`dsnet_mm.models` computes the same function in another order of operations. Here the
equations of "Dual-stream Network for Visual Recognition" (https://arxiv.org/abs/2105.14734)
stand in the order in which the paper and the public implementations state them: 1x1 convolutions
at full resolution, attention maps that are materialised, streams that are concatenated, maps in
the NCHW layout. No code is shared with the formulation they check; the parameters are.

Shapes: B batch, C channels, (H, W) the full resolution, (h, w) the global grid, N = h * w.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet_mm.models.ds_block import DSBlock, GlobalPropagation, InterScaleAlignment
from dsnet_mm.models.dsnet import DSNet


class PublishedDSBlock(DSBlock):
    """A DS-Block with the same parameters, computed as published; ``with_cp`` has no effect."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.dual_stream(self.norm1(x)))
        if self.ffn is not None:
            hidden = self.ffn.act(self.ffn.fc1(self.norm2(x)))
            x = x + self.drop_path(self.ffn.fc2(hidden))
        return x

    def dual_stream(self, x: Tensor) -> Tensor:
        """Steps 2 to 6 of the block: both streams and their fusion, (B, C, H, W) -> the same."""
        size = height, width = x.shape[2:]
        grid = max(1, height // self.grid_stride), max(1, width // self.grid_stride)
        local_dims, global_dims = self.stream_dims

        x = self.in_proj(x)
        global_, local = x[:, :global_dims], x[:, global_dims:]
        if local_dims:
            local = local + self.local_prop.conv(self.local_prop.norm(local))
        if global_dims:
            tokens = flatten(F.interpolate(global_, grid, mode='bilinear', align_corners=False))
            tokens = tokens + self_attention(self.global_prop, tokens)
            if self.alignment is not None:
                local, tokens = align(self.alignment, local, tokens)
            global_ = F.interpolate(
                unflatten(tokens, grid), size, mode='bilinear', align_corners=False
            )
        return self.out_proj(torch.cat([local, global_], dim=1))


class PublishedDSNet(DSNet):
    """DS-Net computed as published: arguments, parameters and outputs of :class:`DSNet`."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        as_published(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> a map for each of ``out_indices``, as of :class:`DSNet`."""
        outs = []
        x = x.contiguous()
        for stage in self.stages:
            x = stage(x)
            outs.append(x)
        return tuple(outs[i] for i in self.out_indices)


def as_published(model: nn.Module) -> nn.Module:
    """Let every DS-Net and DS-Block in ``model`` compute as published, and return ``model``.

    The modules change in place. Their parameters and the names of these stay.
    """
    for module in model.modules():
        if type(module) is DSBlock:
            module.__class__ = PublishedDSBlock
        elif type(module) is DSNet:
            module.__class__ = PublishedDSNet
    return model


def self_attention(layer: GlobalPropagation, tokens: Tensor) -> Tensor:
    """Intra-scale propagation of the global stream, without the sum, (B, N, C) -> the same."""
    q, k, v = heads(layer.qkv(layer.norm(tokens)), layer.num_heads)
    return attention(q, k, v, layer.attn_drop_rate if layer.training else 0.0)


def align(layer: InterScaleAlignment, local: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Inter-scale alignment: (B, C_l, H, W) and (B, N, C_g) -> the same two shapes."""
    size = local.shape[2:]
    drop = layer.attn_drop_rate if layer.training else 0.0
    q_l, k_l, v_l = heads(flatten(layer.qkv_local(layer.norm_local(local))), layer.num_heads)
    q_g, k_g, v_g = heads(layer.qkv_global(layer.norm_global(tokens)), layer.num_heads)
    to_local = layer.proj_local(attention(q_l, k_g, v_g, drop))
    to_global = layer.proj_global(attention(q_g, k_l, v_l, drop))
    return local + unflatten(to_local, size), tokens + to_global


def attention(q: Tensor, k: Tensor, v: Tensor, drop_rate: float) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` in heads (B, heads, N, d), merged into (B, N, heads * d)."""
    weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)
    out = F.dropout(weights, drop_rate) @ v
    batch, num_heads, length, width = out.shape
    return out.transpose(1, 2).reshape(batch, length, num_heads * width)


def heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3 * heads * d), ordered so -> query, key and value of (B, heads, N, d)."""
    batch, length, width = qkv.shape
    qkv = qkv.reshape(batch, length, 3, num_heads, width // (3 * num_heads))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return q, k, v


def flatten(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def unflatten(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H * W, C) -> a contiguous (B, C, H, W)."""
    batch, _, channels = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, channels, *size)
