"""How fast a process loads the images of a config, and how many processes a GPU needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from dsnet_mm.errors import UserError, counted

from .benchmark import Spread


def loading_times(
    cfg: Config, images: int, track: Callable[[range], Iterable[int]] = lambda numbers: numbers
) -> list[float]:
    """Load images as one worker of the training's data loader does, and time each, in seconds.

    Args:
        cfg: A config whose training data are there.
        images: How many, from the first on, after one that is not timed.
        track: Wraps the loop, to show its progress.

    Raises:
        UserError: If the set is smaller.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    if len(dataset) <= images:
        raise UserError(
            f'the training set of {cfg.filename} has {counted(len(dataset), "image")}, too few '
            f'to load {images} and one before; give a smaller --images'
        )
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)  # as in the workers of a data loader
    cv2.setNumThreads(0)
    try:
        dataset[0]
        seconds = []
        for index in track(range(1, images + 1)):
            start = time.perf_counter()
            dataset[index]
            seconds.append(time.perf_counter() - start)
        return seconds
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def workers_needed(seconds: list[float], rate: float) -> int:
    """The number of processes that load ``rate`` images per second."""
    return max(1, math.ceil(rate * sum(seconds) / len(seconds)))


def describe(seconds: list[float], rates: Iterable[float]) -> str:
    """Report in a few lines."""
    spread = Spread.of(seconds)
    lines = [
        f'{counted(len(seconds), "image")}, one process: {len(seconds) / sum(seconds):.1f} '
        f'images/s; {1e3 * spread.median:.0f} ms an image (quartiles {1e3 * spread.lower:.0f} and '
        f'{1e3 * spread.upper:.0f})'
    ]
    lines += [
        f'a GPU that trains {rate:g} images/s needs '
        + counted(workers_needed(seconds, rate), 'worker')
        for rate in rates
    ]
    return '\n'.join(lines)
