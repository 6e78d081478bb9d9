"""The DS-Block of "Dual-stream Network for Visual Recognition" (https://arxiv.org/abs/2105.14734).

A block splits its channels into a local stream, kept at full resolution, and a global stream,
kept on a small grid. Each stream propagates within its own scale (intra-scale propagation),
then each attends to the other (inter-scale alignment). The file reads bottom-up.

Shapes: B batch, C channels, (H, W) the full resolution, (h, w) the global grid, N = h * w.
Convolutions and attention share one memory format, channels-last, in which a feature map is
a sequence of tokens without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dsnet_mm.errors import ConfigError

TOKEN_NORM = dict(type='LN', eps=1e-5)
LARGE_MAP = 8 * 2**20  # numbers; the C library asks the system anew for each larger float32 map
TILE = 2**20  # numbers that stay in the cache of a CPU


def map_to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C), a view when ``x`` is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W), a channels-last view."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def split_heads(tokens: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3 * D) -> query, key and value, each a view of (B, num_heads, N, D / num_heads)."""
    q, k, v = tokens.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def merge_heads(tokens: Tensor) -> Tensor:
    """(B, num_heads, N, d) -> (B, N, num_heads * d)."""
    return tokens.transpose(1, 2).flatten(2)


def fold_norm(norm: nn.Module, weight: Tensor, bias: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """Fold a norm into the 1x1 convolution behind it, where that is exact.

    BatchNorm in eval mode is a scale and a shift per channel. Within the convolution it costs
    nothing, and gradients flow to all parameters as before.

    Returns:
        What remains of the norm, and the convolution's weight and bias.
    """
    foldable = isinstance(norm, _BatchNorm) and norm.affine and norm.track_running_stats
    if norm.training or not foldable:
        return norm, weight, bias
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    bias = bias + (weight.flatten(1) * shift).sum(1)
    return nn.Identity(), weight * scale[:, None, None], bias


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.conv2d`` whose bias may be part of what :func:`fold_norm` returned."""
    if torch.compiler.is_compiling():  # in PyTorch 2.12 for a CPU, such a bias stops the compiler
        out = F.conv2d(x, weight)
        return out + bias.to(out.dtype)[:, None, None]
    return F.conv2d(x, weight, bias)


def in_tiles(x: Tensor, hidden_dims: int) -> bool:
    """Whether an MLP is computed piece by piece: on a CPU, without gradients, if it is large.

    The hidden map is then never held whole, which saves memory and, as its pages need not be
    fetched from the system for every block, more than half of the MLP's time.
    """
    batch, _, height, width = x.shape
    return (
        x.device.type == 'cpu'
        and not torch.is_grad_enabled()
        and not is_traced()
        and batch * hidden_dims * height * width > LARGE_MAP
    )


class LocalPropagation(BaseModule):
    """Intra-scale propagation of the local stream: ``l + dw3x3(norm(l))``."""

    def __init__(self, dims: int, norm_cfg: ConfigType) -> None:
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, dims)[1]
        self.conv = nn.Conv2d(dims, dims, 3, padding=1, groups=dims)

    def forward(self, local: Tensor) -> Tensor:
        """(B, C_l, H, W) -> the same shape."""
        return local + self.conv(self.norm(local))


class GlobalPropagation(BaseModule):
    """Intra-scale propagation of the global stream: ``g + self_attention(LN(g))``.

    One linear layer gives query, key and value; there is no output projection.
    """

    def __init__(self, dims: int, num_heads: int, attn_drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.norm = build_norm_layer(TOKEN_NORM, dims)[1]
        self.qkv = nn.Linear(dims, 3 * dims)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C_g) -> the same shape."""
        q, k, v = split_heads(self.qkv(self.norm(tokens)), self.num_heads)
        drop = self.attn_drop_rate if self.training else 0.0
        return tokens + merge_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=drop))


class InterScaleAlignment(BaseModule):
    """Inter-scale alignment: each stream is updated by cross-attention to the other.

    Both streams are projected to ``attn_dims``, the width of the attention. In the published
    models, where the streams are equally wide, it is their width.
    """

    def __init__(
        self,
        local_dims: int,
        global_dims: int,
        attn_dims: int,
        num_heads: int,
        attn_drop_rate: float,
        norm_cfg: ConfigType,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.norm_local = build_norm_layer(norm_cfg, local_dims)[1]
        self.norm_global = build_norm_layer(TOKEN_NORM, global_dims)[1]
        self.qkv_local = nn.Conv2d(local_dims, 3 * attn_dims, 1)
        self.qkv_global = nn.Linear(global_dims, 3 * attn_dims)
        self.proj_local = nn.Linear(attn_dims, local_dims)
        self.proj_global = nn.Linear(attn_dims, global_dims)

    def forward(self, local: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Local (B, C_l, H, W) and global (B, N, C_g) -> the same two shapes."""
        norm, weight, bias = fold_norm(self.norm_local, self.qkv_local.weight, self.qkv_local.bias)
        q_l, k_l, v_l = split_heads(
            map_to_tokens(F.conv2d(norm(local), weight, bias)), self.num_heads
        )
        q_g, k_g, v_g = split_heads(self.qkv_global(self.norm_global(tokens)), self.num_heads)
        drop = self.attn_drop_rate if self.training else 0.0
        to_local = F.scaled_dot_product_attention(q_l, k_g, v_g, dropout_p=drop)
        to_global = F.scaled_dot_product_attention(q_g, k_l, v_l, dropout_p=drop)
        local = local + tokens_to_map(self.proj_local(merge_heads(to_local)), local.shape[2:])
        tokens = tokens + self.proj_global(merge_heads(to_global))
        return local, tokens


class ConvFFN(BaseModule):
    """The MLP of a block, made of 1x1 convolutions."""

    def __init__(self, dims: int, hidden_dims: int, act_cfg: ConfigType) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dims, hidden_dims, 1)
        self.act = build_activation_layer(act_cfg)
        self.fc2 = nn.Conv2d(hidden_dims, dims, 1)

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """``mlp(norm(x))``, (B, C, H, W) -> the same shape."""
        norm, weight, bias = fold_norm(norm, self.fc1.weight, self.fc1.bias)
        x = norm(x)
        hidden_dims = len(weight)
        if in_tiles(x, hidden_dims):
            tokens = map_to_tokens(x)
            tiles = [
                F.linear(
                    self.act(F.linear(tile, weight.flatten(1), bias)),
                    self.fc2.weight.flatten(1),
                    self.fc2.bias,
                )
                for tile in tokens.split(max(1, TILE // (len(x) * hidden_dims)), dim=1)
            ]
            return tokens_to_map(torch.cat(tiles, dim=1), x.shape[2:])
        # no name for the hidden map, which would hold it until the end
        if self.keeps_one_map(x, weight, bias):
            return checkpoint(
                self.contract,
                F.conv2d(x, weight, bias),
                use_reentrant=False,
                preserve_rng_state=isinstance(self.act, nn.RReLU),  # which is random
            )
        return self.fc2(self.act(F.conv2d(x, weight, bias)))

    def contract(self, hidden: Tensor) -> Tensor:
        """The second half, from the hidden map on."""
        return self.fc2(self.act(hidden))

    def keeps_one_map(self, *inputs: Tensor) -> bool:
        """Whether only the activation's input is kept for the backward pass, not its output too.

        The output is computed anew: an elementwise operation for the largest map of the block.
        Compilers decide on their own what to keep.
        """
        return (
            torch.is_grad_enabled()
            and any(x.requires_grad for x in inputs)
            and not getattr(self.act, 'inplace', False)
            and not is_traced()
        )


class DSBlock(BaseModule):
    """Dual-stream block, the unit of the backbone and of the neck.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads of every attention in the block.
        grid_stride: Pixels of the input per cell of the global grid, along each side. The
            grid has ``max(1, H // grid_stride)`` rows and as many columns from ``W``.
        align: Whether the block holds the inter-scale alignment.
        global_ratio: Share of the channels in the global stream, the paper's alpha. With 0
            only the depthwise convolution remains, with 1 only the self-attention.
        mlp_ratio: Hidden channels of the MLP over C; 0 leaves the MLP out.
        drop_path_rate: Probability to skip a residual branch in training.
        attn_drop_rate: Dropout of attention weights in training.
        norm_cfg: Norm of feature maps. Tokens are always layer-normalised.
        act_cfg: Activation of the MLP.
        with_cp: Whether to recompute the block in the backward pass instead of storing it.
        init_cfg: Initialisation, as of any ``BaseModule``.

    Raises:
        ConfigError: If the channels cannot be divided into streams and heads as asked.

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
        with_cp: bool = False,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.stream_dims = local_dims, global_dims = stream_widths(
            embed_dims, num_heads, global_ratio
        )
        self.grid_stride = grid_stride
        self.with_cp = with_cp

        # Before the convolutions: mmengine's fuse_conv_bn folds a BatchNorm into the convolution
        # that is registered before it.
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1] if mlp_ratio else None
        self.pos_embed = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.in_proj = nn.Conv2d(embed_dims, embed_dims, 1)
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
            )
            if align and local_dims and global_dims
            else None
        )
        self.out_proj = nn.Conv2d(embed_dims, embed_dims, 1)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()
        self.ffn = ConvFFN(embed_dims, int(embed_dims * mlp_ratio), act_cfg) if mlp_ratio else None

    def init_weights(self) -> None:
        """Truncated normal, std 0.02, for linear layers; PyTorch's own for convolutions.

        It resets every layer, so that a parent's ``init_cfg`` for convolutions, such as FPN's
        Xavier, does not reach into the block.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                module.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if self.with_cp and torch.is_grad_enabled():
            options = dict(use_reentrant=False)
            if any(isinstance(m, _BatchNorm) and m.training for m in self.modules()):
                options['context_fn'] = lambda: (nullcontext(), frozen_running_stats(self))
            return checkpoint(self._forward, x, **options)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.dual_stream(x))
        if self.ffn is not None:
            x = x + self.drop_path(self.ffn(x, self.norm2))
        return x

    def dual_stream(self, x: Tensor) -> Tensor:
        """Norm, both streams and their fusion, (B, C, H, W) -> the same shape.

        A 1x1 convolution and a bilinear resize commute, so the global channels of ``in_proj``
        and ``out_proj`` are computed on the small grid: the same function, fewer operations.
        """
        local_dims, global_dims = self.stream_dims
        # in_proj gives the global channels first, out_proj takes the local channels first
        norm, weight, bias = fold_norm(self.norm1, self.in_proj.weight, self.in_proj.bias)
        in_weight = weight.split([global_dims, local_dims])
        in_bias = bias.split([global_dims, local_dims])
        out_weight = self.out_proj.weight.split([local_dims, global_dims], dim=1)

        x = norm(x)
        if self.local_prop is None:
            tokens, grid = self.global_tokens(x, in_weight[0], in_bias[0])
            fused = F.conv2d(tokens_to_map(tokens, grid), out_weight[1], self.out_proj.bias)
            return resize(fused, x.shape[2:])

        local = self.local_prop(conv1x1(x, in_weight[1], in_bias[1]))
        if self.global_prop is None:
            return self.out_proj(local)

        tokens, grid = self.global_tokens(x, in_weight[0], in_bias[0])
        if self.alignment is not None:
            local, tokens = self.alignment(local, tokens)
        fused = F.conv2d(tokens_to_map(tokens, grid), out_weight[1])
        return F.conv2d(local, out_weight[0], self.out_proj.bias) + resize(fused, x.shape[2:])

    def global_tokens(
        self, x: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> the propagated global stream (B, N, C_g) and its grid (h, w)."""
        x = conv1x1(shrink(x, self.grid_stride), weight, bias)
        return self.global_prop(map_to_tokens(x)), x.shape[2:]


def stream_widths(embed_dims: int, num_heads: int, global_ratio: float) -> tuple[int, int]:
    """Channels of the local and the global stream."""
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
    """Width of the alignment's attention: half of the channels, in whole heads.

    The published models have equal streams, so it is theirs; that it stays so for other
    values of ``global_ratio`` is this project's decision.
    """
    return max(1, embed_dims // 2 // num_heads) * num_heads


def shrink(x: Tensor, stride: int) -> Tensor:
    """Resize bilinearly by ``1 / stride``, rounding down but to no less than one pixel."""
    height, width = x.shape[2:]
    return resize(x, (at_least_one(height // stride), at_least_one(width // stride)))


def at_least_one(number: int) -> int:
    """Return ``max(1, number)``, also of a number that ``torch.jit`` traces as a tensor."""
    return number.clamp(min=1) if isinstance(number, Tensor) else torch.sym_max(1, number)


def is_traced() -> bool:
    """Tell whether a graph is being recorded, where a branch is taken once for all inputs."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly to ``size``, (height, width) in pixels."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


def set_norms_to_eval(module: nn.Module) -> None:
    """Have each BatchNorm within use its running statistics, and leave them as they are."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


@contextmanager
def frozen_running_stats(module: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics as they are.

    Recomputing a block runs it twice on one batch, which must count once.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
