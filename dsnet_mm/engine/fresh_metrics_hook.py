"""Metrics of an evaluation that found nothing."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class FreshMetricsHook(Hook):
    """Forget the metrics of the evaluation before.

    mmdet gives none where nothing is found, and mmengine would log the old ones once more. A
    checkpoint holds those of the epoch before its own, which a resumed training would return.
    """

    def before_train(self, runner: Runner) -> None:
        """Drop what came with a checkpoint."""
        self.before_val_epoch(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Drop what the log would take for the outcome of this evaluation."""
        scalars = runner.message_hub.log_scalars
        for name in [name for name in scalars if name.startswith('val/')]:
            del scalars[name]
