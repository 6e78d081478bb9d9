"""Draw the maps of a block of DS-Net or GLNet over an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import nn

from dsnet_mm.errors import UserError, counted
from dsnet_mm.files import written_whole
from dsnet_mm.models import DSBlock
from dsnet_mm.models.block import Block
from dsnet_mm.models.glmix_block import SLOTS_PER_SIDE, AttentionBlock, GLMixBlock

from . import ds_block_maps, glnet_maps
from .block_maps import Maps, Place, Reader, Tensors

Result = TypeVar('Result')

READERS: dict[type[Block], Reader] = {
    DSBlock: ds_block_maps.READER,
    GLMixBlock: glnet_maps.GLMIX_READER,
    AttentionBlock: glnet_maps.ATTENTION_READER,
}


def find_block(backbone: nn.Module, stage: int, block: int) -> Block:
    """Return a block of a DS-Net or GLNet by stage and block number.

    Args:
        backbone: The backbone.
        stage: Number of the stage, from 1.
        block: Number of the block in the stage, from 1, or -1 for the last block.

    Raises:
        UserError: If the block does not exist.
    """
    stages = _stages(backbone)
    if not stages:
        raise UserError(
            f'{type(backbone).__name__} has no blocks with maps; use a detector with DSNet or GLNet'
        )
    if not 1 <= stage <= len(stages):
        raise UserError(
            f'stage {stage} does not exist; the backbone has {counted(len(stages), "stage")}, '
            'counted from 1'
        )
    blocks = stages[stage - 1].blocks
    if block != -1 and not 1 <= block <= len(blocks):
        raise UserError(
            f'block {block} does not exist; stage {stage} has {counted(len(blocks), "block")}, '
            'counted from 1'
        )
    return blocks[block - 1 if block > 0 else -1]


def block_numbers(backbone: nn.Module) -> list[tuple[int, int]]:
    """Return stage and block number of every block with maps, none for other backbones."""
    return [
        (stage, block)
        for stage, module in enumerate(_stages(backbone), start=1)
        for block in range(1, len(module.blocks) + 1)
    ]


def notes(backbone: nn.Module) -> list[str]:
    """Return a sentence about the maps of each kind of block in a backbone."""
    blocks = [block for stage in _stages(backbone) for block in stage.blocks]
    return [r.note for kind, r in READERS.items() if any(isinstance(b, kind) for b in blocks)]


def _stages(backbone: nn.Module) -> list[Any]:
    """Return the stages of a backbone whose blocks have maps."""
    return [
        stage
        for stage in getattr(backbone, 'stages', [])
        if any(isinstance(block, tuple(READERS)) for block in getattr(stage, 'blocks', []))
    ]


def _reader(block: Block) -> Reader:
    return next(reader for kind, reader in READERS.items() if isinstance(block, kind))


def record(block: Block, run: Callable[[], Result]) -> tuple[Result, Tensors]:
    """Run a model, and return its result and tensors of one of its blocks.

    Args:
        block: The block, in eval mode.
        run: Runs the model on one image.
    """
    seen: Tensors = {}

    def watch(name: str, module: nn.Module, argument: int | None) -> Any:
        def keep(module: nn.Module, inputs: tuple, output: Any = None) -> None:
            seen[name] = output if argument is None else inputs[argument]

        if argument is None:
            return module.register_forward_hook(keep)
        return module.register_forward_pre_hook(keep)

    handles = [
        watch(name, module, argument)
        for name, (module, argument) in _reader(block).watched(block).items()
        if module is not None
    ]
    try:
        with torch.no_grad():
            return run(), seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def read(block: Block, seen: Tensors, place: Place) -> Maps:
    """Return the maps of a block for a place in the image.

    Args:
        block: The block.
        seen: Tensors that :func:`record` returned.
        place: The place, in the image with its padding.
    """
    return _reader(block).read(block, seen, place)


def covered(found: Any) -> tuple[float, float]:
    """Return the fractions of the maps' height and width that the image covers, without padding.

    Args:
        found: Detections of mmdet, whose metainfo has the sizes.
    """
    height, width = found.img_shape
    padded_height, padded_width = found.batch_input_shape
    return height / padded_height, width / padded_width


def panels(image: np.ndarray, maps: Maps, covered: Place) -> dict[str, np.ndarray]:
    """Return each map over the gray image, RGB (H, W, 3), by its title.

    Args:
        image: RGB image (H, W, 3), 0 to 255.
        maps: Maps of the image.
        covered: Fractions of the maps' height and width that the image covers, without padding.
    """
    height, width = image.shape[:2]
    whole = round(width / covered[1]), round(height / covered[0])
    gray = image.mean(2, keepdims=True)
    drawn = {}
    for title, values in maps.items():
        small = values.float().cpu().numpy()
        large = cv2.resize(small, whole, interpolation=cv2.INTER_NEAREST)[:height, :width]
        colors = _shades(large) if values.is_floating_point() else _slot_colors(large.astype(int))
        drawn[title] = (0.3 * gray + 0.7 * colors).astype(np.uint8)
    return drawn


def _shades(values: np.ndarray) -> np.ndarray:
    """Return colors (H, W, 3), 0 to 255, from dark for the least value to bright."""
    values = (values - values.min()) / max(np.ptp(values), np.finfo(np.float32).tiny)
    return 255 * colormaps['inferno'](values)[..., :3]


def _slot_colors(slots: np.ndarray) -> np.ndarray:
    """Return a color (H, W, 3), 0 to 255, for each number of a slot.

    The hue follows the column of the slot's cell in the grid of first slots, and the lightness
    follows the row, so slots that start beside each other have similar colors.
    """
    rows, columns = np.divmod(slots, SLOTS_PER_SIDE)
    hues = columns / SLOTS_PER_SIDE
    values = 0.4 + 0.6 * rows / (SLOTS_PER_SIDE - 1)
    return 255 * hsv_to_rgb(np.stack([hues, np.full(slots.shape, 0.75), values], axis=-1))


def draw(
    image: np.ndarray,
    maps: Maps,
    place: tuple[int, int],
    covered: Place,
    file: Path,
    title: str,
) -> None:
    """Write a figure of the image and the maps over it.

    Args:
        image: RGB image (H, W, 3), 0 to 255.
        maps: Maps of the image.
        place: Row and column of the chosen place in pixels.
        covered: Fractions of the maps' height and width that the image covers, without padding.
        file: Figure to write; its extension determines the format.
        title: Title of the figure.

    Raises:
        UserError: If the figure cannot be written.
    """
    drawn = {'image': image, **panels(image, maps, covered)}
    height, width = image.shape[:2]
    figure = Figure(figsize=(3.4 * len(drawn), 3.4 * height / width + 0.8))
    axes = figure.subplots(1, len(drawn))
    for axis, (name, panel) in zip(axes, drawn.items(), strict=True):
        axis.imshow(panel, extent=(0, width, height, 0))
        axis.plot(place[1], place[0], '+', color='cyan', markersize=12)
        axis.set_title(name, fontsize=9)
        axis.axis('off')
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    with written_whole(file) as draft:
        figure.savefig(draft, dpi=110)
