"""The DS-Block of "Dual-stream Network for Visual Recognition" (https://arxiv.org/abs/2105.14734).

Read :mod:`.reference` first: it states the same steps plainly. Here the attention is fused, the
memory format is channels-last, in which a feature map is a sequence of tokens without a copy, and
the global channels are projected on the small grid.

Shapes: B batch, C channels, C_l of them local and C_g global, (H, W) the full resolution,
(h, w) the global grid, N = h * w.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from dsnet_mm.errors import ConfigError

from .block import Block
from .mlp import ConvFFN
from .norms import conv_of_norm
from .ops import grid_size, map_to_tokens, merge_heads, resize, split_heads, tokens_to_map
from .projections import InProjection, OutProjection

TOKEN_NORM = dict(type='LN', eps=1e-5)


class LocalPropagation(BaseModule):
    """Intra-scale propagation of the local stream: ``l + dw3x3(norm(l))``."""

    def __init__(self, dims: int, norm_cfg: ConfigType) -> None:
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, dims)[1]
        self.conv = nn.Conv2d(dims, dims, 3, padding=1, groups=dims)

    def forward(self, local: Tensor) -> Tensor:
        """Propagate (B, C_l, H, W) -> the same shape."""
        return local + self.conv(self.norm(local))


class GlobalPropagation(BaseModule):
    """Intra-scale propagation of the global stream: ``g + self_attention(LN(g))``.

    One linear layer computes query, key and value. The attention has no output projection.
    """

    def __init__(self, dims: int, num_heads: int, attn_drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.norm = build_norm_layer(TOKEN_NORM, dims)[1]
        self.qkv = nn.Linear(dims, 3 * dims)

    def forward(self, tokens: Tensor) -> Tensor:
        """Propagate (B, N, C_g) -> the same shape."""
        q, k, v = split_heads(self.qkv(self.norm(tokens)), self.num_heads)
        drop = self.attn_drop_rate if self.training else 0.0
        return tokens + merge_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=drop))


class InterScaleAlignment(BaseModule):
    """Inter-scale alignment: each stream is updated by cross-attention to the other.

    Both streams are projected to ``attn_dims``, the width of the attention. In the published
    models both streams have this width.

    Args:
        local_dims: Channels of the local stream.
        global_dims: Channels of the global stream.
        attn_dims: Channels of query, key and value.
        num_heads: Heads of both attentions; they divide ``attn_dims``.
        attn_drop_rate: Dropout of attention weights in training.
        norm_cfg: Norm of the local stream. The global stream is layer-normalized.
        recompute: Whether the backward pass recomputes the output of the local norm.
    """

    def __init__(
        self,
        local_dims: int,
        global_dims: int,
        attn_dims: int,
        num_heads: int,
        attn_drop_rate: float,
        norm_cfg: ConfigType,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.recompute = recompute
        self.norm_local = build_norm_layer(norm_cfg, local_dims)[1]
        self.norm_global = build_norm_layer(TOKEN_NORM, global_dims)[1]
        self.qkv_local = nn.Conv2d(local_dims, 3 * attn_dims, 1)
        self.qkv_global = nn.Linear(global_dims, 3 * attn_dims)
        self.proj_local = nn.Linear(attn_dims, local_dims)
        self.proj_global = nn.Linear(attn_dims, global_dims)

    def forward(self, local: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Align local (B, C_l, H, W) and global (B, N, C_g) -> the same two shapes."""
        qkv = conv_of_norm(self.qkv_local, self.norm_local, local, recompute=self.recompute)
        q_l, k_l, v_l = split_heads(map_to_tokens(qkv), self.num_heads)
        q_g, k_g, v_g = split_heads(self.qkv_global(self.norm_global(tokens)), self.num_heads)
        drop = self.attn_drop_rate if self.training else 0.0
        to_local = F.scaled_dot_product_attention(q_l, k_g, v_g, dropout_p=drop)
        to_global = F.scaled_dot_product_attention(q_g, k_l, v_l, dropout_p=drop)
        local = local + tokens_to_map(self.proj_local(merge_heads(to_local)), local.shape[2:])
        tokens = tokens + self.proj_global(merge_heads(to_global))
        return local, tokens


class DSBlock(Block):
    """Dual-stream block, the unit of the backbone and of the neck.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads of every attention in the block.
        grid_stride: Pixels of the input per cell of the global grid, along each side. The
            grid has ``max(1, H // grid_stride)`` rows and as many columns from ``W``.
        max_grid_cells: Largest number of cells of the global grid, a decision of this project. A
            larger grid becomes coarser by about the same factor along both sides. The cost of the
            block is then linear in the pixels. None, the published function, has no limit.
        align: Whether the block has the inter-scale alignment.
        global_ratio: Share of the channels in the global stream, the paper's alpha. With 0
            only the depthwise convolution remains, with 1 only the self-attention.
        mlp_ratio: Hidden channels of the MLP divided by C; 0 omits the MLP.
        drop_path_rate: Probability of skipping a residual branch in training.
        attn_drop_rate: Dropout of attention weights in training.
        norm_cfg: Norm of feature maps. Tokens are always layer-normalized.
        act_cfg: Activation of the MLP.
        with_cp: What the backward pass recomputes instead of storing it. ``'mlp'``, the default:
            the elementwise layers around the MLP's and the projections' convolutions, which are
            norms that do not update their statistics, and the activation. No product runs
            twice. True: the whole block. False: nothing.
        init_cfg: Initialization, as of any ``BaseModule``.

    Raises:
        ConfigError: If ``with_cp`` or ``max_grid_cells`` has another value, or if the channels
            cannot be divided into streams and heads.

    Example:
        >>> block = DSBlock(64, num_heads=1, grid_stride=8)
        >>> block(torch.rand(2, 64, 50, 84)).shape
        torch.Size([2, 64, 50, 84])
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        grid_stride: int,
        align: bool = True,
        global_ratio: float = 0.5,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        norm_cfg: ConfigType = dict(type='BN'),
        act_cfg: ConfigType = dict(type='GELU'),
        with_cp: bool | str = 'mlp',
        max_grid_cells: int | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(with_cp, init_cfg)
        self.stream_dims = local_dims, global_dims = stream_widths(
            embed_dims, num_heads, global_ratio
        )
        if max_grid_cells is not None and (type(max_grid_cells) is not int or max_grid_cells < 1):
            raise ConfigError(
                f'max_grid_cells={max_grid_cells!r} is no number of cells; set it to a whole '
                'number from 1, or to None for a grid without a limit'
            )
        self.grid_stride = grid_stride
        self.max_grid_cells = max_grid_cells

        # Before the convolutions: mmengine's fuse_conv_bn folds a BatchNorm into the convolution
        # that is registered before it.
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1] if mlp_ratio else None
        self.pos_embed = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.in_proj = InProjection(local_dims, global_dims)
        self.local_prop = LocalPropagation(local_dims, norm_cfg) if local_dims else None
        self.global_prop = (
            GlobalPropagation(global_dims, num_heads, attn_drop_rate) if global_dims else None
        )
        self.alignment = (
            InterScaleAlignment(
                local_dims,
                global_dims,
                attention_width(embed_dims, num_heads),
                num_heads,
                attn_drop_rate,
                norm_cfg,
                self.recompute,
            )
            if align and local_dims and global_dims
            else None
        )
        self.out_proj = OutProjection(local_dims, global_dims)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()
        self.ffn = (
            ConvFFN(embed_dims, int(embed_dims * mlp_ratio), act_cfg, self.recompute)
            if mlp_ratio
            else None
        )

    def _forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        # 1. Encode positions.
        x = x + self.pos_embed(x)
        # Steps 2 to 6.
        x = x + self.drop_path(self.dual_stream(x))
        # 7. Apply the MLP.
        if self.ffn is not None:
            x = x + self.drop_path(self.ffn(x, self.norm2))
        return x

    def dual_stream(self, x: Tensor) -> Tensor:
        """Apply steps 2 to 6 of the block: (B, C, H, W) -> the same shape."""
        size, grid = x.shape[2:], self.grid_size(x)

        # 2. Project, and split the channels into a global and a local stream.
        local, global_ = conv_of_norm(
            self.split_streams, self.norm1, x, grid, recompute=self.recompute
        )

        # 3. Propagate the local stream within its scale.
        if self.local_prop is not None:
            local = self.local_prop(local)

        # 4. Propagate the global stream within its scale, on a small grid.
        if self.global_prop is not None:
            tokens, grid = map_to_tokens(global_), global_.shape[2:]
            tokens = self.global_prop(tokens)

            # 5. Align the streams across scales.
            if self.alignment is not None:
                local, tokens = self.alignment(local, tokens)
            global_ = tokens_to_map(tokens, grid)

        # 6. Fuse the streams at full resolution.
        return self.fuse_streams(local, global_, size)

    def grid_size(self, x: Tensor) -> tuple[int, int]:
        """Return the size (h, w) of the global grid for an input (B, C, H, W)."""
        return grid_size(x, self.grid_stride, self.max_grid_cells)

    def split_streams(
        self, x: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the local (B, C_l, H, W) and the global stream (B, C_g, h, w) of (B, C, H, W)."""
        if isinstance(self.in_proj, InProjection):
            return self.in_proj(x, grid)
        local_dims, global_dims = self.stream_dims  # replaced, for example by an adapter
        global_, local = self.in_proj(x).split([global_dims, local_dims], dim=1)
        return local if local_dims else None, resize(global_, grid) if global_dims else None

    def fuse_streams(
        self, local: Tensor | None, global_: Tensor | None, size: tuple[int, ...]
    ) -> Tensor:
        """Return (B, C, H, W) of the local (B, C_l, H, W) and the global stream (B, C_g, h, w)."""
        if isinstance(self.out_proj, OutProjection):
            if local is None:
                return resize(self.out_proj(global_), size)
            return self.out_proj(local, global_)
        global_ = None if global_ is None else resize(global_, size)
        return self.out_proj(torch.cat([x for x in (local, global_) if x is not None], dim=1))


def stream_widths(embed_dims: int, num_heads: int, global_ratio: float) -> tuple[int, int]:
    """Return the channels of the local and of the global stream.

    Raises:
        ConfigError: If ``global_ratio`` gives no whole number of channels, or ``num_heads`` does
            not divide the global channels.
    """
    global_dims = round(embed_dims * global_ratio)
    if not 0 <= global_ratio <= 1 or abs(global_dims - embed_dims * global_ratio) > 1e-6:
        raise ConfigError(
            f'global_ratio={global_ratio} does not split {embed_dims} channels into two streams; '
            'use a value from 0 to 1 that gives a whole number of channels, such as 0.5'
        )
    if global_dims % num_heads:
        raise ConfigError(
            f'num_heads={num_heads} does not divide the {global_dims} channels of the global '
            'stream; change num_heads, embed_dims or global_ratio'
        )
    return embed_dims - global_dims, global_dims


def attention_width(embed_dims: int, num_heads: int) -> int:
    """Return the width of the alignment's attention: half of the channels, in whole heads.

    In the published models both streams have this width. To keep the width for other values of
    ``global_ratio`` is a decision of this project.
    """
    return max(1, embed_dims // 2 // num_heads) * num_heads
