"""Looking at a checkpoint before a model relies on it."""

from __future__ import annotations

import os.path as osp
from typing import Any

import torch
from torch import Tensor, nn

from dsnet_mm.errors import UserError
from dsnet_mm.weights.fit import misfit


def read_checkpoint(path: str) -> dict[str, Any]:
    """Load a training checkpoint safely, onto the CPU.

    Raises:
        UserError: If ``path`` is no file, no checkpoint, or not safe to load.
    """
    if not osp.isfile(path):
        raise UserError(f'{path} is no file; give the path of a checkpoint (.pth)')
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # the kinds that torch raises for a broken file are not documented
        reason = 'is damaged or no checkpoint of PyTorch'
        if 'Weights only load failed' in str(error) and 'GLOBAL' in str(error):
            reason = 'holds Python objects that PyTorch does not load safely'
        raise UserError(
            f'{path} {reason}; give a checkpoint written by tools/train.py or by a config with '
            "custom_hooks=[dict(type='SafeCheckpointHook')]"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        raise UserError(
            f'{path} has no state_dict, so it is no checkpoint of a training run; '
            'give one written by tools/train.py'
        )
    return checkpoint


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
