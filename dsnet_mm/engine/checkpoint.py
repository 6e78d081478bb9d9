"""Looking at a checkpoint before a model relies on it."""

from __future__ import annotations

import os.path as osp
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from dsnet_mm.errors import UserError
from dsnet_mm.weights.fit import misfit


def read_checkpoint(path: str) -> dict[str, Any]:
    """Load a training checkpoint safely, onto the CPU.

    Raises:
        UserError: If ``path`` is no file, no checkpoint, or not safe to load.
    """
    checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        raise UserError(
            f'{path} has no state_dict, so it is no checkpoint of a training run; '
            'give one written by tools/train.py'
        )
    return checkpoint


def read_weights(path: str) -> dict[str, Tensor]:
    """Load the tensors of a checkpoint, or of a file that holds nothing else, as load_from does.

    Raises:
        UserError: If ``path`` is no file, holds no tensors by name, or is not safe to load.
    """
    content = _load(path)
    content = content.get('state_dict', content) if isinstance(content, dict) else {}
    named = content.items() if isinstance(content, dict) else ()
    weights = {
        str(name).removeprefix('module.'): tensor
        for name, tensor in named
        if isinstance(tensor, Tensor)
    }
    if not weights:
        raise UserError(
            f'{path} holds no tensors by name; give a checkpoint, such as tools/train.py writes it'
        )
    return weights


def _load(path: str) -> Any:
    if not osp.isfile(path):
        raise UserError(f'{path} is no file; give the path of a checkpoint (.pth)')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # the kinds that torch raises for a broken file are not documented
        reason, other = 'is damaged or no checkpoint of PyTorch', ''
        if 'Weights only load failed' in str(error) and 'GLOBAL' in str(error):
            reason = 'holds Python objects that PyTorch does not load safely'
            other = (
                ', or, if you trust where it is from, keep its weights alone by `python -c "import '
                f"torch; whole = torch.load('{path}', weights_only=False); "
                "torch.save(dict(state_dict=whole['state_dict']), 'weights.pth')\"`"
            )
        raise UserError(
            f'{path} {reason}; give a checkpoint written by tools/train.py or by a config with '
            f"custom_hooks=[dict(type='SafeCheckpointHook')]{other}"
        ) from error


def fitting_parts(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Count the tensors of each part of ``model`` that have their like in ``weights``.

    Returns:
        For each part, such as 'backbone', how many fit in name and shape, and how many it has.
    """
    parts: dict[str, tuple[int, int]] = {}
    for name, tensor in model.state_dict().items():
        part = name.partition('.')[0]
        fits, needed = parts.get(part, (0, 0))
        given = weights.get(name)
        fits += given is not None and given.shape == tensor.shape
        parts[part] = fits, needed + 1
    return parts


def check_fit(model: nn.Module, state_dict: dict[str, Tensor], path: str) -> None:
    """Look whether ``state_dict``, read from ``path``, holds just the tensors of ``model``.

    Raises:
        UserError: If a tensor is missing, left over or of another shape.
    """
    fault = misfit(
        {name: tensor.shape for name, tensor in model.state_dict().items()},
        {name: tensor.shape for name, tensor in state_dict.items()},
    )
    if fault:
        raise UserError(
            f'{path} belongs to another model than the config, give the config it was trained '
            f'with ({fault})'
        )


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest complete checkpoint in a work dir.

    A training that is killed while it writes a checkpoint leaves an incomplete file.
    """
    for path in checkpoints_in(work_dir):
        try:
            read_checkpoint(str(path))
        except UserError as error:
            print_log(f'Skipping a checkpoint: {error}', logger='current')
        else:
            return path
    return None


def checkpoints_in(work_dir: str | Path) -> list[Path]:
    """Return the checkpoints that trainings wrote into a work dir, the newest first."""
    numbers = {
        path: int(match[1])
        for path in Path(work_dir).glob('*.pth')
        if (match := re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name))
    }
    return sorted(numbers, key=numbers.__getitem__, reverse=True)
