"""Paste the masks of a mask head into images, without PyTorch."""

from __future__ import annotations

import numpy as np


def paste(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """Enlarge masks to their boxes, bilinearly as mmdet does.

    Args:
        masks: Probabilities for the pixels of each box (N, h, w).
        boxes: Left, top, right, bottom in pixels of the image (N, 4).
        size: Height and width of the image in pixels.
        threshold: Smallest probability of a pixel that belongs to an object.

    Returns:
        Booleans (N, height, width).
    """
    pasted = np.zeros((len(masks), *size), dtype=bool)
    for target, mask, (left, top, right, bottom) in zip(pasted, masks, boxes):
        rows, from_rows = _weights(top, bottom, size[0], mask.shape[0])
        columns, from_columns = _weights(left, right, size[1], mask.shape[1])
        target[rows, columns] = from_rows @ mask @ from_columns.T >= threshold
    return pasted


def _weights(start: float, end: float, length: int, cells: int) -> tuple[slice, np.ndarray]:
    """Return the pixels that an axis of a box touches, and their weights of the cells (P, cells).

    Beyond its outermost centers, a mask fades to zero within one cell.
    """
    first, last = max(0, int(np.floor(start)) - 1), min(length, int(np.ceil(end)) + 1)
    centers = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    with np.errstate(divide='ignore', invalid='ignore'):  # boxes without area
        places = (centers - start) / (end - start) * cells - np.float32(0.5)
    places[np.isinf(places)] = (cells - 1) / 2  # as mmdet does
    distances = np.abs(places[:, None] - np.arange(cells, dtype=np.float32))
    return slice(first, max(first, last)), np.clip(1 - distances, 0, None, dtype=np.float32)
