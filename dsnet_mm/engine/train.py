"""Train a model from a config."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.logging import print_log

from .annotation_files import handed_over
from .building import build_runner, stop_workers
from .distributed import rank_of
from .explain_errors import explained
from .hooks import (
    CheckClassesHook,
    DropOldMetricsHook,
    RecordRunHook,
    ShowClassesHook,
    WarnAtResumeHook,
)
from .preflight import check_model, preflight, warnings_of
from .work_dir_lock import only_training_in


def train(
    cfg: Config, amp: bool = False, auto_scale_lr: bool = False, resume: str | None = None
) -> dict[str, float]:
    """Train, and evaluate as the config says.

    Args:
        cfg: A config, see :func:`.config.load_config`.
        amp: Whether to train in mixed precision.
        auto_scale_lr: Whether to scale the learning rate by the batch size.
        resume: 'auto' for the latest complete checkpoint in the work dir, or the path of a
            checkpoint. With 'auto', a finished training returns its metrics at once.

    Returns:
        The metrics of the last evaluation by name.

    Raises:
        UserError: If data or weights are missing or do not fit, another process trains in the
            work dir, the work dir is not writable, or the training stops for lack of space, for
            broken data or for a loss that is not finite.
    """
    start = preflight(cfg, amp, auto_scale_lr, resume)
    if start.finished:
        done = f'{start.finished.epoch} of {start.finished.max_epochs} epochs'
        if iterations := cfg.train_cfg.get('max_iters'):
            done = f'{iterations} of {iterations} iterations'
        print_log(f'{cfg.work_dir} is already trained for {done}.', logger='current')
        return start.finished.metrics
    record = RecordRunHook()
    again = 'continue with --resume, which loads the latest complete checkpoint'
    with only_training_in(cfg.work_dir, rank_of(cfg.launcher)), record.outcome_recorded():
        with explained(cfg, again):
            runner = build_runner(cfg)
            for warning in (
                *start.annotations.warnings,
                *warnings_of(cfg, runner.world_size),
                *check_model(runner, start),
            ):
                runner.logger.warning(warning)
            hooks = CheckClassesHook(), ShowClassesHook(), record, DropOldMetricsHook()
            for hook in (*hooks, WarnAtResumeHook()):
                runner.register_hook(hook)
            with handed_over(start.annotations.contents):
                start.annotations.contents.clear()
                runner.train()
            if runner.val_loop is not None and record.was_killed_before_evaluation(runner):
                runner.val_loop.run()
            stop_workers(runner)
    return record.facts.metrics
