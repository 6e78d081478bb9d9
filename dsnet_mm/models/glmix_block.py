"""The blocks of GLNet: GLMix, and attention over all pixels.

"Revisiting the Integration of Convolution and Attention for Vision Backbone",
https://arxiv.org/abs/2411.14429.

Read :mod:`.glmix_reference` first: it states the steps of the GLMix block plainly. Here the
clustering and the dispatch are fused attention, so that no map of slots by pixels is stored, and
the memory format is channels-last.

Tensor names are those of the public code, rayleizhu/GLMix.

Shapes: B batch, C channels, (H, W) the map, N = H * W pixels, S slots.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmdet.utils import OptMultiConfig
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dsnet_mm.errors import ConfigError

from .block import Block
from .norms import conv_of_norm
from .ops import (
    map_to_tokens,
    merge_heads,
    pool_windows,
    split_heads,
    stores_for_backward,
    tokens_to_map,
)

SLOTS_PER_SIDE = 8
HEAD_DIMS = 32
NORM_EPS = 1e-6
UNIT_EPS = 1e-12  # the smallest length by which a token is divided


class MapLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W) -> the same shape, channels-last."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """LayerScale: a learned factor per channel.

    Args:
        shape: Of the factors; the public code stores (C,) or (1, C, 1, 1).
        value: The first value of all factors.
    """

    def __init__(self, shape: tuple[int, ...], value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, value))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (B, C, H, W) -> the same shape."""
        return x * self.gamma.view(-1, 1, 1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with the tensor names of ``torch.nn.MultiheadAttention``.

    PyTorch's own module builds the matrix of all pairs in eval mode.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.num_heads = dims // HEAD_DIMS
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend (B, N, C) -> the same shape."""
        qkv = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        q, k, v = split_heads(qkv, self.num_heads)
        return self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class MapMLP(nn.ModuleList):
    """A 1x1 convolution, optionally a depthwise 3x3 with a residual, GELU, a 1x1 convolution.

    Args:
        dims: Channels C of input and output.
        hidden_dims: Channels of the hidden map.
        has_conv: Whether there is a depthwise convolution.
        recompute: Whether the backward pass recomputes the outputs of the norm and of GELU.
    """

    def __init__(self, dims: int, hidden_dims: int, has_conv: bool, recompute: bool) -> None:
        depthwise = nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        super().__init__(
            [
                nn.Conv2d(dims, hidden_dims, 1),
                depthwise if has_conv else nn.Identity(),
                nn.GELU(),
                nn.Conv2d(hidden_dims, dims, 1),
            ]
        )
        self.has_conv = has_conv
        self.recompute = recompute

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Return ``mlp(norm(x))``, (B, C, H, W) -> the same shape."""
        hidden = conv_of_norm(self[0], norm, x, recompute=self.recompute)
        if self.has_conv:
            hidden = hidden + self[1](hidden)
        if self.recompute and stores_for_backward():
            return checkpoint(self.contract, hidden, use_reentrant=False)
        return self.contract(hidden)

    def contract(self, hidden: Tensor) -> Tensor:
        """Apply the activation and the second convolution to the hidden map."""
        return self[3](self[2](hidden))


class TokenMLP(nn.ModuleList):
    """Two linear layers with GELU between them."""

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__([nn.Linear(dims, hidden_dims), nn.GELU(), nn.Linear(hidden_dims, dims)])

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Return ``mlp(norm(x))``, (B, C, H, W) -> the same shape."""
        tokens = map_to_tokens(norm(x))
        for layer in self:
            tokens = layer(tokens)
        return tokens_to_map(tokens, x.shape[2:])


class MixerBlock(Block):
    """What the blocks of GLNet share: a mixer of pixels, then an MLP, both with a residual.

    Args:
        embed_dims: Channels C of input and output, a multiple of 32.
        mlp_ratio: Hidden channels of the MLP divided by C.
        has_convs: Whether there are a depthwise 3x3 convolution before the mixer and another in
            the MLP.
        layer_scale: First value of the LayerScale factors, or None for no LayerScale.
        drop_path_rate: Probability of skipping a residual branch in training.
        with_cp: What the backward pass recomputes instead of storing it, as in ``DSBlock``.
        init_cfg: Initialization, as of any ``BaseModule``.

    Raises:
        ConfigError: If ``embed_dims`` or ``with_cp`` has another value.
    """

    def __init__(
        self,
        embed_dims: int,
        mlp_ratio: float = 3.0,
        has_convs: bool = True,
        layer_scale: float | None = None,
        drop_path_rate: float = 0.0,
        with_cp: bool | str = 'mlp',
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(with_cp, init_cfg)
        if embed_dims % HEAD_DIMS:
            raise ConfigError(
                f'embed_dims={embed_dims} cannot be divided into heads of {HEAD_DIMS} channels; '
                f'use a multiple of {HEAD_DIMS}'
            )
        self.pos_conv = (
            nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
            if has_convs
            else None
        )
        self.norm1 = MapLayerNorm(embed_dims, NORM_EPS)
        self.norm2 = MapLayerNorm(embed_dims, NORM_EPS)
        hidden_dims = int(embed_dims * mlp_ratio)
        self.mlp = self.build_mlp(embed_dims, hidden_dims, has_convs, self.recompute)
        self.ls1: nn.Module = nn.Identity()
        self.ls2: nn.Module = nn.Identity()
        if layer_scale is not None:
            self.ls1 = Scale(self.scale_shape(embed_dims), layer_scale)
            self.ls2 = Scale((1, embed_dims, 1, 1), layer_scale)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    @staticmethod
    def build_mlp(dims: int, hidden_dims: int, has_convs: bool, recompute: bool) -> nn.Module:
        """Return the MLP, whose ``forward(x, norm)`` takes and returns a map."""
        return MapMLP(dims, hidden_dims, has_convs, recompute)

    @staticmethod
    def scale_shape(dims: int) -> tuple[int, ...]:
        """Return the shape of the LayerScale factors behind the mixer."""
        return (1, dims, 1, 1)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.mix(x)
        return x + self.drop_path(self.ls2(self.mlp(x, self.norm2)))

    def mix(self, x: Tensor) -> Tensor:
        """Exchange information between pixels: (B, C, H, W) -> the same shape."""
        raise NotImplementedError

    def encode_positions(self, x: Tensor) -> Tensor:
        """Add the output of a depthwise convolution: (B, C, H, W) -> the same shape."""
        return x if self.pos_conv is None else x + self.pos_conv(x)


class GLMixBlock(MixerBlock):
    """GLMix block: convolutions on all pixels beside attention among 64 slots.

    Each slot is a weighted mean of the pixels that resemble it (soft clustering). The slots attend
    to each other. Then each pixel gets a weighted mean of the slots (dispatch).

    Args:
        embed_dims: Channels C of input and output, a multiple of 32.
        learned_slots: Whether the first slots are learned instead of pooled from the map.
        **kwargs: Further arguments of :class:`MixerBlock`.

    Example:
        >>> block = GLMixBlock(64)
        >>> block(torch.rand(2, 64, 50, 84)).shape
        torch.Size([2, 64, 50, 84])
    """

    def __init__(self, embed_dims: int, learned_slots: bool = False, **kwargs: Any) -> None:
        super().__init__(embed_dims, **kwargs)
        self.slot_scale = nn.Parameter(torch.tensor(embed_dims**-0.5))
        self.init_slots = (
            nn.Parameter(torch.empty(1, SLOTS_PER_SIDE**2, embed_dims).normal_(std=0.02))
            if learned_slots
            else None
        )
        self.relation_mha = SelfAttention(embed_dims)
        self.feature_conv = nn.Sequential(
            nn.Conv2d(embed_dims, embed_dims, 1),
            nn.Conv2d(embed_dims, embed_dims, 5, padding=2, groups=embed_dims),
            nn.Conv2d(embed_dims, embed_dims, 1),
        )

    def mix(self, x: Tensor) -> Tensor:
        """Apply steps 1 to 6 of the block: (B, C, H, W) -> the same shape."""
        # 1. Take the first slots.
        slots = self.first_slots(x)

        # 2. Encode positions.
        x = self.encode_positions(x)
        normed = self.norm1(x)

        # 3. Cluster, 4. relate the slots, 5. dispatch.
        global_ = tokens_to_map(self.through_slots(slots, map_to_tokens(normed)), x.shape[2:])

        # 6. Add the convolutions of the local branch.
        return x + self.drop_path(self.ls1(global_ + self.feature_conv(normed)))

    def first_slots(self, x: Tensor) -> Tensor:
        """Return the slots before clustering, (B, S, C), of the block's input (B, C, H, W)."""
        if self.init_slots is not None:
            return self.init_slots.expand(len(x), -1, -1)
        return map_to_tokens(pool_windows(x, SLOTS_PER_SIDE))

    def through_slots(self, slots: Tensor, tokens: Tensor) -> Tensor:
        """Apply steps 3 to 5 to slots (B, S, C) and tokens (B, N, C) -> (B, N, C)."""
        # The logits of both softmaxes are slot_scale times the cosines of slots and tokens.
        units = to_unit_length(tokens)
        centers = self.slot_scale * to_unit_length(slots)
        clustered = attend(centers, units, tokens)  # each slot's weights sum to 1
        return attend(units, centers, self.relation_mha(clustered))  # each pixel's sum to 1


class AttentionBlock(MixerBlock):
    """A block with multi-head attention over all pixels, in heads of 32 channels.

    Args:
        embed_dims: Channels C of input and output, a multiple of 32.
        **kwargs: Further arguments of :class:`MixerBlock`.
    """

    def __init__(self, embed_dims: int, **kwargs: Any) -> None:
        super().__init__(embed_dims, **kwargs)
        self.mha_op = SelfAttention(embed_dims)

    @staticmethod
    def build_mlp(dims: int, hidden_dims: int, has_convs: bool, recompute: bool) -> nn.Module:
        """Return the MLP: of linear layers where the block has no convolutions."""
        if has_convs:
            return MapMLP(dims, hidden_dims, has_convs, recompute)
        return TokenMLP(dims, hidden_dims)

    @staticmethod
    def scale_shape(dims: int) -> tuple[int, ...]:
        """Return the shape of the LayerScale factors behind the attention."""
        return (dims,)

    def mix(self, x: Tensor) -> Tensor:
        """Encode positions, and attend: (B, C, H, W) -> the same shape."""
        x = self.encode_positions(x)
        attended = self.mha_op(map_to_tokens(self.norm1(x)))
        return x + self.drop_path(self.ls1(tokens_to_map(attended, x.shape[2:])))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return ``softmax(queries keys^T) values`` of (B, M, C), (B, N, C), (B, N, C): (B, M, C)."""
    q, k, v = (x.unsqueeze(1) for x in (queries, keys, values))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)


def to_unit_length(tokens: Tensor) -> Tensor:
    """Divide each token of (B, N, C) by its length; a token of zeros remains."""
    # 1e-12 is 0 in float16
    return F.normalize(tokens, dim=-1, eps=max(UNIT_EPS, torch.finfo(tokens.dtype).tiny))
