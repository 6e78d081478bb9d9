"""Decode the runs of compressed RLE masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BLOCK = 10_000  # masks that are decoded together, which bounds the memory
_LONGEST = 7  # characters of a run


def fill(texts: Sequence[str], sizes: Sequence[int]) -> np.ndarray:
    """Return whether the runs of each text add up to the pixels of its mask (N,)."""
    blocks = range(0, len(texts), _BLOCK)
    parts = [totals(texts[start : start + _BLOCK]) for start in blocks]
    return np.concatenate([np.zeros(0, np.int64), *parts]) == np.array(sizes, dtype=np.int64)


def totals(texts: Sequence[str]) -> np.ndarray:
    """Return the sum of the runs of each text (N,), -1 for texts that are not RLE.

    Each character holds five bits of a number, the lowest bits first, and one bit for "continued".
    From the fourth number on, a number is the difference to the number two places before.
    """
    found = np.full(len(texts), -1, dtype=np.int64)
    places = [i for i, text in enumerate(texts) if text and text.isascii()]
    if not places:
        return found
    lengths = np.array([len(texts[i]) for i in places])
    bits = np.frombuffer(''.join(texts[i] for i in places).encode(), np.uint8).astype(np.int64) - 48
    first = np.cumsum(lengths) - lengths  # character of each mask
    last = first + lengths - 1
    right = np.logical_and.reduceat((bits >= 0) & (bits < 64), first) & ((bits[last] & 32) == 0)
    ends = (bits & 32) == 0
    ends[last] = True
    starts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1])  # character of each number
    digits = np.diff(np.append(starts, len(bits)))
    mask = np.repeat(np.arange(len(places)), lengths)[starts]  # of each number
    right &= np.bincount(mask, digits > _LONGEST, len(places)) == 0
    place = np.minimum(np.arange(len(bits)) - np.repeat(starts, digits), _LONGEST)
    numbers = np.add.reduceat((bits & 31) << (5 * place), starts)
    negative = (bits[np.flatnonzero(ends)] & 16) > 0
    numbers -= negative.astype(np.int64) << (5 * np.minimum(digits, _LONGEST + 1))
    # add the differences: the first number, those at odd, and those at even places are chains
    begins = np.flatnonzero(np.diff(mask, prepend=-1))  # number at which each mask begins
    index = np.arange(len(numbers)) - begins[mask]
    chain = mask * 3 + np.where(index > 0, 1 + index % 2, 0)
    order = np.argsort(chain, kind='stable')
    sums = np.cumsum(numbers[order])
    heads = np.flatnonzero(np.diff(chain[order], prepend=-1))
    before = np.concatenate([[0], sums])[heads]
    runs = sums - np.repeat(before, np.diff(np.append(heads, len(sums))))
    right &= np.minimum.reduceat(runs, begins) >= 0
    found[places] = np.where(right, np.add.reduceat(runs, begins), -1)
    return found
