"""Keep the log from repeating the metrics of an earlier evaluation."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner


class DropOldMetricsHook(Hook):
    """Drop the metrics of the previous evaluation before each evaluation.

    mmdet reports no metrics if a detector finds nothing. mmengine would then log the previous
    metrics again.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Drop the metrics, which a resumed training has from its checkpoint."""
        scalars = runner.message_hub.log_scalars
        for name in [name for name in scalars if name.startswith('val/')]:
            del scalars[name]
