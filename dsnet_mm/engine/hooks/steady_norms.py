"""Let a training normalize as the evaluation does."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dsnet_mm.models.norms import set_norms_to_eval


@HOOKS.register_module()
class SteadyNormsHook(Hook):
    """Keep BatchNorm in eval mode in the last epochs of a training.

    Args:
        begin: Number of epochs with BatchNorm in train mode before the last epochs.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        """Set each BatchNorm to eval mode."""
        if runner.epoch >= self.begin:
            set_norms_to_eval(runner.model)
