"""Visualize the two streams of a DS-Block for an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dsnet_mm.errors import UserError, counted
from dsnet_mm.files import written_whole
from dsnet_mm.models import DSBlock
from dsnet_mm.models.ops import map_to_tokens, split_heads


@dataclass(frozen=True)
class Streams:
    """Hold the maps of one block for one image, None for a missing stream.

    Attributes:
        local: (H, W), mean magnitude of the local stream after its propagation.
        global_attention: (h, w), attention of the chosen grid cell to the global stream. Each
            attention map sums to 1.
        local_to_global: (h, w), attention of the chosen pixel to the global grid.
        global_to_local: (H, W), attention of the chosen grid cell to the local stream.
    """

    local: Tensor | None
    global_attention: Tensor | None
    local_to_global: Tensor | None
    global_to_local: Tensor | None


def find_block(backbone: nn.Module, stage: int, block: int) -> DSBlock:
    """Return a block of a DS-Net by stage and block number.

    Args:
        backbone: The backbone.
        stage: Number of the stage, from 1.
        block: Number of the block in the stage, from 1, or -1 for the last block.

    Raises:
        UserError: If the block does not exist.
    """
    stages = [
        stage
        for stage in getattr(backbone, 'stages', [])
        if any(isinstance(block, DSBlock) for block in getattr(stage, 'blocks', []))
    ]
    if not 1 <= stage <= len(stages):
        raise UserError(
            f'stage {stage} does not exist; the backbone has {counted(len(stages), "DS stage")}, '
            'counted from 1'
        )
    blocks = stages[stage - 1].blocks
    if block != -1 and not 1 <= block <= len(blocks):
        raise UserError(
            f'block {block} does not exist; stage {stage} has {counted(len(blocks), "block")}, '
            'counted from 1'
        )
    return blocks[block - 1 if block > 0 else -1]


def look(block: DSBlock, run: Callable[[], object], place: tuple[float, float]) -> Streams:
    """Run a model and return the maps of one of its blocks.

    Args:
        block: The block, in eval mode.
        run: Runs the model on one image.
        place: Row and column of the chosen place as fractions of height and width, in [0, 1).
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, index: int) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: object = None) -> None:
            seen[name] = output if index < 0 else inputs[index]

        return hook

    handles = [block.register_forward_pre_hook(keep('input', 0))]
    if block.local_prop is not None:
        handles.append(block.local_prop.register_forward_hook(keep('local', -1)))
    if block.global_prop is not None:
        handles.append(block.global_prop.register_forward_pre_hook(keep('tokens', 0)))
    if block.alignment is not None:
        handles.append(block.alignment.register_forward_pre_hook(keep('aligned', 1)))
    try:
        with torch.no_grad():
            run()
            return _read(block, seen, place)
    finally:
        for handle in handles:
            handle.remove()


def _read(block: DSBlock, seen: dict[str, Tensor], place: tuple[float, float]) -> Streams:
    size = tuple(seen['input'].shape[2:])
    grid = tuple(max(1, side // block.grid_stride) for side in size)
    pixel, cell = (_index(place, shape) for shape in (size, grid))
    local = attention = to_global = to_local = None
    if 'local' in seen:
        local = seen['local'][0].abs().mean(0)
    if 'tokens' in seen:
        layer = block.global_prop
        q, k, _ = split_heads(layer.qkv(layer.norm(seen['tokens'])), layer.num_heads)
        attention = _weights(q[0, :, cell], k[0]).view(grid)
    if 'aligned' in seen:
        layer = block.alignment
        tokens = map_to_tokens(layer.qkv_local(layer.norm_local(seen['local'])))
        q_l, k_l, _ = split_heads(tokens, layer.num_heads)
        tokens = layer.qkv_global(layer.norm_global(seen['aligned']))
        q_g, k_g, _ = split_heads(tokens, layer.num_heads)
        to_global = _weights(q_l[0, :, pixel], k_g[0]).view(grid)
        to_local = _weights(q_g[0, :, cell], k_l[0]).view(size)
    return Streams(local, attention, to_global, to_local)


def _index(place: tuple[float, float], size: tuple[int, ...]) -> int:
    """Return the row-major index of the cell of a map at ``place``."""
    row, column = (
        min(int(share * side), side - 1) for share, side in zip(place, size, strict=True)
    )
    return row * size[1] + column


def _weights(q: Tensor, k: Tensor) -> Tensor:
    """Return the mean attention (N,) over heads of a query (heads, d) to keys (heads, N, d)."""
    scores = (k @ q[..., None]).squeeze(-1) * q.shape[-1] ** -0.5
    return scores.softmax(-1).mean(0)


def draw(
    image: np.ndarray,
    streams: Streams,
    place: tuple[int, int],
    covered: tuple[float, float],
    file: Path,
    title: str,
) -> None:
    """Draw the maps over the image.

    Args:
        image: RGB image (H, W, 3), 0 to 255.
        streams: Maps of the image.
        place: Row and column of the chosen place in pixels.
        covered: Fractions of the maps' height and width that the image covers, without padding.
        file: Figure to write; its extension determines the format.
        title: Title of the figure.

    Raises:
        UserError: If the figure cannot be written.
    """
    panels = {
        'local stream: magnitude': streams.local,
        'global stream: attention of the cell': streams.global_attention,
        'alignment: the pixel on the grid': streams.local_to_global,
        'alignment: the cell on the pixels': streams.global_to_local,
    }
    panels = {name: values for name, values in panels.items() if values is not None}
    height, width = image.shape[:2]
    count = 1 + len(panels)
    figure = Figure(figsize=(3.4 * count, 3.4 * height / width + 0.8))
    axes = figure.subplots(1, count)
    for axis, (name, values) in zip(axes, {'image': None, **panels}.items(), strict=True):
        axis.imshow(image if values is None else image.mean(2), cmap='gray')
        if values is not None:
            extent = (0, width / covered[1], height / covered[0], 0)
            axis.imshow(values.cpu(), extent=extent, cmap='inferno', alpha=0.7)
        axis.set(xlim=(0, width), ylim=(height, 0))
        axis.plot(place[1], place[0], '+', color='cyan', markersize=12)
        axis.set_title(name, fontsize=9)
        axis.axis('off')
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    with written_whole(file) as draft:
        figure.savefig(draft, dpi=110)
