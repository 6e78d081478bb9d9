"""Where the published ImageNet weights are, and where this project keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PADDLE_CLAS = 'https://paddle-imagenet-models-name.bj.bcebos.com/dygraph'


class PublishedModel(NamedTuple):
    """A model of PaddleClas.

    Attributes:
        url: Its file.
        checkpoint: The converted file, as the configs name it.
    """

    url: str
    checkpoint: Path


PUBLISHED = {
    arch: PublishedModel(
        f'{PADDLE_CLAS}/DSNet_{arch}_pretrained.pdparams',
        Path(f'checkpoints/dsnet_{arch[0]}_in1k.pth'),
    )
    for arch in ('tiny', 'small', 'base')
}


def how_to_get(checkpoint: str) -> str:
    """Say which command makes a checkpoint, judged by its file name."""
    names = {model.checkpoint.name: arch for arch, model in PUBLISHED.items()}
    arch = names.get(Path(checkpoint).name, 'tiny|small|base')
    return f'python tools/get_weights.py {arch}'
