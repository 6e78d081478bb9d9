"""What the maps of all kinds of blocks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

Place = tuple[float, float]
"""Row and column in the input of a model, as fractions of height and width, in [0, 1)."""

Tensors = dict[str, Tensor]
"""Tensors of a block for one image, by the names of :attr:`Reader.watched`."""

Maps = dict[str, Tensor]
"""Maps (h, w) of one image by their titles: strengths, or the numbers of slots as integers."""


class Reader(NamedTuple):
    """Reads the maps of one kind of block."""

    # block -> for each name: a module, and the index of the argument to keep, None for the output
    watched: Callable[[Any], dict[str, tuple[nn.Module | None, int | None]]]
    read: Callable[[Any, Tensors, Place], Maps]  # of the block, its tensors and the chosen place
    note: str  # a sentence about the titles


def index_at(place: Place, size: tuple[int, ...]) -> int:
    """Return the row-major index of the cell of a map at ``place``."""
    row, column = (
        min(int(share * side), side - 1) for share, side in zip(place, size, strict=True)
    )
    return row * size[1] + column


def mean_attention(q: Tensor, k: Tensor) -> Tensor:
    """Return the mean attention (N,) over heads of a query (heads, d) to keys (heads, N, d)."""
    scores = (k @ q[..., None]).squeeze(-1) * q.shape[-1] ** -0.5
    return scores.softmax(-1).mean(0)
