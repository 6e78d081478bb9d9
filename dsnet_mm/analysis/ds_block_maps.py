"""Read the two streams of a DS-Block."""

from __future__ import annotations

from torch import nn

from dsnet_mm.models import DSBlock
from dsnet_mm.models.ops import map_to_tokens, split_heads

from .block_maps import Maps, Place, Reader, Tensors, index_at, mean_attention

LOCAL = 'local stream: magnitude'
GLOBAL = 'global stream: attention of the cell'
TO_GLOBAL = 'alignment: the pixel on the grid'
TO_LOCAL = 'alignment: the cell on the pixels'


def watched(block: DSBlock) -> dict[str, tuple[nn.Module | None, int | None]]:
    """Return what to keep of a forward pass, see :class:`Reader`."""
    return dict(
        input=(block, 0),
        local=(block.local_prop, None),
        tokens=(block.global_prop, 0),
        aligned=(block.alignment, 1),
    )


def read(block: DSBlock, seen: Tensors, place: Place) -> Maps:
    """Return the maps of the streams that the block has. Each attention map sums to 1."""
    size, grid = tuple(seen['input'].shape[2:]), block.grid_size(seen['input'])
    pixel, cell = (index_at(place, shape) for shape in (size, grid))
    maps: Maps = {}
    if 'local' in seen:
        maps[LOCAL] = seen['local'][0].abs().mean(0)
    layer, align = block.global_prop, block.alignment
    if layer is not None:
        q, k, _ = split_heads(layer.qkv(layer.norm(seen['tokens'])), layer.num_heads)
        maps[GLOBAL] = mean_attention(q[0, :, cell], k[0]).view(grid)
    if align is not None:
        tokens = map_to_tokens(align.qkv_local(align.norm_local(seen['local'])))
        q_l, k_l, _ = split_heads(tokens, align.num_heads)
        tokens = align.qkv_global(align.norm_global(seen['aligned']))
        q_g, k_g, _ = split_heads(tokens, align.num_heads)
        maps[TO_GLOBAL] = mean_attention(q_l[0, :, pixel], k_g[0]).view(grid)
        maps[TO_LOCAL] = mean_attention(q_g[0, :, cell], k_l[0]).view(size)
    return maps


READER = Reader(watched, read, 'The cell is the cell of the global grid at the pixel.')
