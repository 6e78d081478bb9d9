"""Where the published ImageNet weights are, and where this project keeps them."""

from __future__ import annotations

import re
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


def is_known(checkpoint: str) -> bool:
    """Tell, by its file name, whether :func:`how_to_get` knows just this checkpoint."""
    return bool(re.fullmatch(r'dsnet_[tsb](_noalign)?_in1k\.pth', Path(checkpoint).name))


def how_to_get(checkpoint: str) -> str:
    """Say how a checkpoint comes about, judged by its file name."""
    name = Path(checkpoint).name
    if re.fullmatch(r'dsnet_[tsb]_noalign_in1k\.pth', name):
        return (
            'published nowhere, so train them by `python tools/train.py '
            f'configs/pretrain/{Path(name).stem}.py` and copy the last checkpoint there'
        )
    names = {model.checkpoint.name: arch for arch, model in PUBLISHED.items()}
    return f'get them by `python tools/get_weights.py {names.get(name, "tiny|small|base")}`'
