"""Write checkpoints that PyTorch loads safely."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import Runner

MARK = 'dsnet_mm.HistoryBuffer'


@HOOKS.register_module()  # in the root registry, which mmdet and mmpretrain search too
class SafeCheckpointHook(Hook):
    """Write training checkpoints which ``torch.load(weights_only=True)`` accepts.

    mmengine 0.10 stores the log history as ``HistoryBuffer`` objects and numpy scalars, which
    PyTorch >= 2.6 refuses to load. This hook turns them into tensors and plain numbers before
    a checkpoint is saved, and back after a checkpoint is loaded for resuming.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Turn ``message_hub`` and ``meta`` of ``checkpoint`` into plain containers."""
        for part in ('message_hub', 'meta'):
            if part in checkpoint:
                checkpoint[part] = to_plain(checkpoint[part])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the log history of ``checkpoint`` in place."""
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = from_plain(checkpoint['message_hub'])


def to_plain(value: Any) -> Any:
    """Copy nested containers; turn log histories, numpy arrays and scalars into plain types."""
    if isinstance(value, HistoryBuffer):
        log, count = (torch.from_numpy(np.array(part, dtype=np.float64)) for part in value.data)
        return {MARK: dict(log=log, count=count, max_length=value.max_length)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return _map(to_plain, value)


def from_plain(value: Any) -> Any:
    """Undo :func:`to_plain` for log histories; numbers and lists stay plain."""
    if isinstance(value, dict) and MARK in value:
        history = value[MARK]
        return HistoryBuffer(
            history['log'].cpu().numpy(), history['count'].cpu().numpy(), history['max_length']
        )
    return _map(from_plain, value)


def _map(function, value: Any) -> Any:
    # PyTorch rejects subclasses such as ConfigDict and named tuples
    if isinstance(value, dict):
        return {key: function(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        plain = list if isinstance(value, list) else tuple
        return plain(function(item) for item in value)
    return value
