"""Record the facts of a training in `run.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dsnet_mm.engine.distributed import batch_size_of
from dsnet_mm.engine.run_file import RunFile, State, plain
from dsnet_mm.errors import UserError

from .stop_at_nan import NotFiniteError


class RecordRunHook(Hook):
    """Write `run.json` at the start, after every epoch, after every evaluation and at the end.

    A resumed training continues the record beside its checkpoint.
    """

    priority = 'NORMAL'  # before LoggerHook, which resets the peak memory

    def __init__(self) -> None:
        self.facts = RunFile(State.RUNNING)
        self.work_dir = ''  # until the training starts
        self.start = self.end = 0.0
        self.begin = 0  # iterations trained before this process
        self.loss: torch.Tensor | None = None
        self.memory: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Start a record, or continue the record of the training that is resumed."""
        cfg, start = runner.cfg, runner.cfg.get('load_from')
        earlier = None
        if runner.iter:
            folder = Path(start).parent if start else runner.work_dir
            earlier = RunFile.read(folder) or RunFile(State.RUNNING, load_from=start)
        self.work_dir, self.begin = runner.work_dir, runner.iter
        self.facts = RunFile(
            State.RUNNING,
            epoch=runner.epoch,
            max_epochs=runner.max_epochs,
            seed=runner.seed,
            world_size=runner.world_size,
            batch_size=batch_size_of(cfg, runner.world_size),
            load_from=earlier.load_from if earlier else start,
            config=plain(cfg),
        )
        if earlier:
            self.facts.epochs = [e for e in earlier.epochs if e['epoch'] <= runner.epoch]
            self.facts.evaluations = [
                e for e in earlier.evaluations if e['iteration'] <= runner.iter
            ]
        self._write()

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self.start, self.memory = time.perf_counter(), None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Note the loss, the time and the peak memory."""
        self.loss = (outputs or {}).get('loss')
        self.end = time.perf_counter()
        if torch.cuda.is_available():
            self.memory = max(self.memory or 0, torch.cuda.max_memory_allocated() >> 20)

    def after_train_epoch(self, runner: Runner) -> None:
        """Record an epoch."""
        self.facts.epoch = runner.epoch + 1
        self.facts.epochs.append(
            dict(
                epoch=self.facts.epoch,
                loss=None if self.loss is None else self.loss.item(),
                seconds=self.end - self.start,
                memory=self.memory,
                batch_size=self.facts.batch_size,
            )
        )
        self._write()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Record an evaluation."""
        self.facts.evaluations.append(
            dict(epoch=runner.epoch, iteration=runner.iter, metrics=dict(metrics or {}))
        )
        self._write()

    def was_killed_before_evaluation(self, runner: Runner) -> bool:
        """Whether nothing was left to train, but the last checkpoint is not evaluated."""
        evaluated = {evaluation['iteration'] for evaluation in self.facts.evaluations}
        return self.begin == runner.iter > 0 and runner.iter not in evaluated

    @contextmanager
    def outcome_recorded(self) -> Iterator[None]:
        """Record how the block ends."""
        try:
            yield
        except BaseException as error:
            if self.work_dir:
                self._record_failure(error)
            raise
        self.facts.state = State.FINISHED
        self._write()

    def _record_failure(self, error: BaseException) -> None:
        self.facts.state, self.facts.reason = State.FAILED, str(error) or type(error).__name__
        if isinstance(error, NotFiniteError):
            self.facts.state, self.facts.reason = State.STOPPED, error.fact
        elif isinstance(error, KeyboardInterrupt):
            self.facts.state = State.INTERRUPTED
        with suppress(UserError):  # such as on a full disk, which is the first error already
            self._write()

    def _write(self) -> None:
        if is_main_process():
            self.facts.write(self.work_dir)
