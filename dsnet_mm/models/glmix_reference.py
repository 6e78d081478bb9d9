"""The GLMix block as the public code computes it. Read this file before :mod:`.glmix_block`.

"Revisiting the Integration of Convolution and Attention for Vision Backbone",
https://arxiv.org/abs/2411.14429, and rayleizhu/GLMix.

:mod:`.glmix_block` computes the same steps faster and with less memory. The tests compare both.
Here the maps of slots by pixels and of pixels by pixels are in memory.

Shapes: B batch, C channels, (H, W) the map, N = H * W pixels, S slots.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .glmix_block import SLOTS_PER_SIDE, UNIT_EPS, GLMixBlock, SelfAttention
from .reference import to_map, to_tokens


def glmix(block: GLMixBlock, x: Tensor) -> Tensor:
    """Apply the block without its MLP, with the parameters of ``block``: (B, C, H, W) -> same."""
    return glmix_steps(block, x)['mixed']


def glmix_steps(block: GLMixBlock, x: Tensor) -> dict[str, Tensor]:
    """Return the result of each step of a GLMix block."""
    # 1. Pool the block's own input to the first slots, or take the learned ones.
    if block.init_slots is None:
        pooled = to_tokens(F.adaptive_avg_pool2d(x, SLOTS_PER_SIDE))
    else:
        pooled = block.init_slots.expand(len(x), -1, -1)

    # 2. Encode positions by a depthwise 3x3 convolution, and normalize.
    if block.pos_conv is not None:
        x = x + block.pos_conv(x)
    normed = to_tokens(block.norm1(x))

    # 3. Cluster: each slot becomes the mean of all pixels, weighted by their similarity.
    similarity = block.slot_scale * unit(pooled) @ unit(normed).transpose(1, 2)
    slots = similarity.softmax(dim=2) @ normed

    # 4. Relate the slots by self-attention.
    slots_updated = attention(block.relation_mha, slots)

    # 5. Dispatch: each pixel becomes the mean of all slots, weighted by the same similarity.
    global_branch = to_map(similarity.softmax(dim=1).transpose(1, 2) @ slots_updated, x.shape[2:])

    # 6. Add the local branch: a 1x1, a depthwise 5x5 and a 1x1 convolution.
    local_branch = block.feature_conv(to_map(normed, x.shape[2:]))
    mixed = x + block.drop_path(block.ls1(global_branch + local_branch))
    return dict(
        pooled=pooled,
        normed=normed,
        similarity=similarity,
        slots=slots,
        slots_updated=slots_updated,
        global_branch=global_branch,
        local_branch=local_branch,
        mixed=mixed,
    )


def unit(tokens: Tensor) -> Tensor:
    """Divide each token of (B, N, C) by its length."""
    return tokens / tokens.norm(dim=-1, keepdim=True).clamp(min=UNIT_EPS)


def attention(layer: SelfAttention, tokens: Tensor) -> Tensor:
    """Compute multi-head self-attention ``softmax(q k^T / sqrt(d)) v`` of tokens (B, N, C)."""
    qkv = F.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)
    q, k, v = (x.unflatten(2, (layer.num_heads, -1)).transpose(1, 2) for x in qkv.chunk(3, dim=2))
    weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)
    return layer.out_proj((weights @ v).transpose(1, 2).flatten(2))
