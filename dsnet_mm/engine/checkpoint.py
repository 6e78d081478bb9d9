"""Check a checkpoint before a model uses it."""

from __future__ import annotations

import os.path as osp
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from dsnet_mm.errors import UserError
from dsnet_mm.models.strict_backbone import misfit
from dsnet_mm.weights.address import local_file
from dsnet_mm.weights.published_files import PREFIX
from dsnet_mm.weights.safetensors_format import SUFFIX, read_safetensors


def read_checkpoint(path: str) -> dict[str, Any]:
    """Load a training checkpoint safely, onto the CPU.

    Raises:
        UserError: If ``path`` is not a file, not a checkpoint, or not safe to load.
    """
    checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        raise UserError(
            f'{path} has no state_dict, so it is not a checkpoint of a training; pass one that '
            '`dsnet-mm train` wrote'
        )
    return checkpoint


def read_weights(path: str) -> dict[str, Tensor]:
    """Load the tensors of a checkpoint, or of a file of tensors, as load_from does.

    Raises:
        UserError: If ``path`` is not a file, holds no named tensors, or is not safe to load.
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
            f'{path} holds no named tensors; pass a checkpoint, such as `dsnet-mm train` writes'
        )
    return weights


def _load(path: str) -> Any:
    if path.startswith(PREFIX):
        path = str(local_file(path))
    if not osp.isfile(path):
        raise UserError(f'{path} is not a file; pass the path of a checkpoint (.pth)')
    if path.endswith(SUFFIX):
        return read_safetensors(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # the kinds that torch raises for a broken file are not documented
        reason, other = 'is damaged or not a checkpoint of PyTorch', ''
        if 'Weights only load failed' in str(error) and 'GLOBAL' in str(error):
            reason = 'holds Python objects that PyTorch does not load safely'
            other = (
                ', or, if you trust its origin, extract its weights by `python -c "import '
                f"torch; whole = torch.load('{path}', weights_only=False); "
                "torch.save(dict(state_dict=whole['state_dict']), 'weights.pth')\"`"
            )
        raise UserError(
            f'{path} {reason}; pass a checkpoint of `dsnet-mm train`, or of a config with '
            f"custom_hooks=[dict(type='SafeCheckpointHook')]{other}"
        ) from error


def fitting_parts(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Count the tensors of each part of ``model`` that ``weights`` can set.

    Returns:
        For each part, such as 'backbone': how many fit in name and shape, and how many exist.
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
    """Check that ``state_dict``, read from ``path``, holds exactly the tensors of ``model``.

    Raises:
        UserError: If a tensor is missing, left over or of another shape.
    """
    fault = misfit(
        {name: tensor.shape for name, tensor in model.state_dict().items()},
        {name: tensor.shape for name, tensor in state_dict.items()},
    )
    if fault:
        raise UserError(
            f'{path} does not fit the model of the config; pass the config of its training '
            f'({fault})'
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
