"""Warn if a resumed training does not continue as its config says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from dsnet_mm.engine.distributed import batch_size_of
from dsnet_mm.engine.run_file import RunFile

PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
ANEW = (
    'start a new training from its weights, with --cfg-options load_from={} and another --work-dir'
)


class WarnAtResumeHook(Hook):
    """Compare the schedule and the length of an epoch with those of the checkpoint.

    mmengine restores the schedules of the checkpoint, and ignores those of the config.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.wanted: list[dict[str, Any]] = []
        self.checkpoint: dict[str, Any] | None = None
        self.batch_size = 0

    def before_run(self, runner: Runner) -> None:
        """Note the schedules of the config."""
        self.wanted = states_of(runner.param_schedulers)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the progress and the schedules of the checkpoint."""
        if runner._resume:
            names = ('meta', 'param_schedulers')
            self.checkpoint = {name: checkpoint.get(name) for name in names}
            facts = RunFile.read(Path(runner._load_from or runner.work_dir).parent)
            self.batch_size = facts.batch_size if facts else 0

    def before_train(self, runner: Runner) -> None:
        """Log the warnings."""
        if self.checkpoint is not None:
            for sentence in self.differences(runner, self.checkpoint):
                runner.logger.warning(sentence)

    def differences(self, runner: Runner, checkpoint: dict[str, Any]) -> Iterator[str]:
        """Yield one sentence for each difference."""
        path = runner._load_from
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        done, planned, unit = runner.iter, runner.max_iters, 'iterations'
        if by_epoch:
            done, planned, unit = runner.epoch, runner.max_epochs, 'epochs'
        if done >= planned:
            yield f'{path} is already trained for {done} of {planned} {unit}.'
            return
        given = states_of(checkpoint['param_schedulers'])
        changes = [
            f'{name} {_plain(old.get(name))} instead of {_plain(new.get(name))}{_unit(new, name)}'
            for old, new in zip(given, self.wanted)
            for name in sorted(new.keys() - PROGRESS)
            if old.get(name) != new.get(name)
        ]
        if len(given) != len(self.wanted):
            changes.append(f'{len(given)} schedules instead of {len(self.wanted)}')
        if changes:
            yield (
                f'The training continues with the schedule of {path}, which differs from the '
                f'config ({", ".join(changes)}). To use the schedule of the config, '
                f'{ANEW.format(path)}.'
            )
        meta = checkpoint['meta'] or {}
        epochs, iterations = meta.get('epoch', 0), meta.get('iter', 0)
        length = iterations // epochs if by_epoch and epochs and not iterations % epochs else 0
        now, batch = len(runner.train_dataloader), batch_size_of(runner.cfg, runner.world_size)
        if (length and length != now) or (self.batch_size and self.batch_size != batch):
            before = f' with batches of {self.batch_size} images' if self.batch_size else ''
            yield (
                f'An epoch of {path} had {length or "an unknown number of"} iterations{before}, '
                f'and an epoch of this run has {now} with batches of {batch}, so schedules that '
                'count iterations end at another epoch. Resume with the earlier batch size and '
                f'data, or {ANEW.format(path)}.'
            )


def states_of(schedules: Any) -> list[dict[str, Any]]:
    """Return the states of schedules, of one optimizer or of several by name."""
    if isinstance(schedules, dict):
        return [state for group in schedules.values() for state in states_of(group)]
    return [
        schedule if isinstance(schedule, dict) else dict(schedule.state_dict())
        for schedule in schedules or []
    ]


def _plain(value: Any) -> Any:
    """Return a setting as a config writes it; milestones are stored as a Counter."""
    return sorted(value.elements()) if hasattr(value, 'elements') else value


def _unit(state: dict[str, Any], name: str) -> str:
    if name not in ('begin', 'end', 'T_max', 'total_iters', 'milestones'):
        return ''
    return ' epochs' if state['by_epoch'] else ' iterations'
