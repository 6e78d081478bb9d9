"""Read the slots of a GLMix block, and the attention of the other blocks of GLNet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from dsnet_mm.models.glmix_block import AttentionBlock, GLMixBlock, to_unit_length
from dsnet_mm.models.ops import map_to_tokens, split_heads

from .block_maps import Maps, Place, Reader, Tensors, index_at, mean_attention

OWNERS = 'slots: owner of each pixel'
CLUSTERING = 'clustering: the pixels in the slot'
DISPATCH = 'dispatch: the slot in the pixels'
LOCAL = 'local branch: magnitude'
ATTENTION = 'attention of the pixel'


def watched_of_glmix(block: GLMixBlock) -> dict[str, tuple[nn.Module | None, int | None]]:
    """Return what to keep of a forward pass, see :class:`Reader`."""
    return dict(input=(block, 0), normed=(block.norm1, None), local=(block.feature_conv, None))


def read_glmix(block: GLMixBlock, seen: Tensors, place: Place) -> Maps:
    """Return the owner of each pixel, the weights of the owner at ``place``, and the local branch.

    The owner of a pixel is the slot with the largest dispatch weight. The clustering weights of a
    slot sum to 1 over the pixels, and the dispatch weights of a pixel sum to 1 over the slots.
    """
    size = tuple(seen['normed'].shape[2:])
    centers = block.slot_scale * to_unit_length(block.first_slots(seen['input']))
    units = to_unit_length(map_to_tokens(seen['normed']))
    similarity = (centers @ units.transpose(1, 2))[0]  # slots by pixels
    owners = similarity.argmax(0)
    slot = owners[index_at(place, size)]
    return {
        OWNERS: owners.view(size),
        CLUSTERING: similarity[slot].softmax(0).view(size),
        DISPATCH: similarity.softmax(0)[slot].view(size),
        LOCAL: seen['local'][0].abs().mean(0),
    }


def watched_of_attention(block: AttentionBlock) -> dict[str, tuple[nn.Module | None, int | None]]:
    """Return what to keep of a forward pass, see :class:`Reader`."""
    return dict(normed=(block.norm1, None))


def read_attention(block: AttentionBlock, seen: Tensors, place: Place) -> Maps:
    """Return the mean attention over heads of the pixel at ``place``, which sums to 1."""
    layer, size = block.mha_op, tuple(seen['normed'].shape[2:])
    tokens = map_to_tokens(seen['normed'])
    qkv = F.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)
    q, k, _ = split_heads(qkv, layer.num_heads)
    return {ATTENTION: mean_attention(q[0, :, index_at(place, size)], k[0]).view(size)}


GLMIX_READER = Reader(
    watched_of_glmix,
    read_glmix,
    'The slot is the owner of the pixel: the slot with the largest dispatch weight. In the map of '
    'owners, each color is a slot.',
)
ATTENTION_READER = Reader(
    watched_of_attention, read_attention, 'In some blocks of GLNet, each pixel attends to all.'
)
