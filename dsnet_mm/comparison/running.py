"""Training what a comparison lacks: each run in a process of its own, all of them resumable."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dsnet_mm.data.locate import check_data
from dsnet_mm.engine.distributed import unfit_batch
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError, counted
from dsnet_mm.models.strict_backbone import listing

from .runs import Run, State, newest_checkpoint, read_run
from .suites import Entry

POLL = 1.0  # seconds between two looks at a run
GRACE = 20.0  # seconds that an interrupted training has to end by itself
EPOCH = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')
TAIL = 65536  # bytes at the end of a log; an evaluation writes a line for every 50 images


@dataclass(frozen=True)
class Task:
    """A training to be done.

    Attributes:
        entry: The detector.
        run: What stands of it already.
        config: Its config, with the options that all runs get.
    """

    entry: Entry
    run: Run
    config: Config

    @property
    def epochs(self) -> int:
        """How many are to be trained in all."""
        return self.config.train_cfg.max_epochs

    @property
    def log(self) -> Path:
        """Where the output of the training goes."""
        return self.run.folder / 'train.log'


@dataclass(frozen=True)
class Launch:
    """How trainings are started.

    Attributes:
        data_root: Folder of the data set, None for the one that the configs name.
        options: Settings of the configs, as ``key=value``.
        gpus: Processes of a training, one for each GPU; None for one without a launcher.
        jobs: Trainings at a time.
    """

    data_root: str | None = None
    options: Sequence[str] = field(default=())
    gpus: int | None = None
    jobs: int = 1

    def environment(self, place: int) -> dict[str, str]:
        """Return the environment by which trainings at one time share the cores and the GPUs.

        Args:
            place: Which of the trainings at one time it is for, from 0 on; they take the GPUs that
                this process sees in turn.
        """
        mine = dict(os.environ)
        if self.jobs > 1:
            share = max(1, len(os.sched_getaffinity(0)) // self.jobs)
            mine.setdefault('OMP_NUM_THREADS', str(share))
            count = torch.cuda.device_count()
            if count > 1:
                all_of_them = ','.join(map(str, range(count)))
                names = mine.get('CUDA_VISIBLE_DEVICES', all_of_them).split(',')[:count]
                mine['CUDA_VISIBLE_DEVICES'] = names[place % count].strip()
        return mine

    def command(self, task: Task, checkpoint: Path | None) -> list[str]:
        """Return the command of a training, which goes on from ``checkpoint`` if there is one."""
        tool = configs_dir().parent / 'tools' / 'train.py'
        command = [sys.executable]
        if self.gpus is not None:
            # standalone: at a port of its own, beside other trainings on the machine
            command += ['-m', 'torch.distributed.run', '--standalone']
            command += ['--nproc_per_node', str(self.gpus)]
        command += [str(tool), str(task.entry.config), '--work-dir', str(task.run.folder)]
        if self.gpus is not None:
            command += ['--launcher', 'pytorch']
        if self.data_root is not None:
            command += ['--data-root', self.data_root]
        if checkpoint is not None:
            command += ['--resume', str(checkpoint)]
        seed = [] if task.run.seed is None else [f'randomness.seed={task.run.seed}']
        options = [*self.options, *seed]
        return [*command, '--cfg-options', *options] if options else command


def to_do(runs: Sequence[tuple[Entry, Run]], load: Callable[[Entry], Config]) -> list[Task]:
    """Pick the runs to be trained: the missing and the unfinished, one seed after the other.

    Args:
        runs: All runs with their entries.
        load: Reads an entry's config, with the options that all runs get.
    """
    tasks = [
        Task(entry, run, load(entry))
        for entry, run in runs
        if run.state in (State.MISSING, State.UNFINISHED)
    ]
    return sorted(tasks, key=lambda task: task.run.seed or 0)


def train_all(tasks: Sequence[Task], launch: Launch, console: Console) -> dict[str, str]:
    """Train in order, ``launch.jobs`` at a time; one that fails does not keep others from theirs.

    Interrupted, all that was trained up to the last complete epoch stays and is gone on from; a
    second interruption waits for none of them to end by itself.

    Returns:
        What went wrong, by the name of the run.

    Raises:
        UserError: If data are missing.
    """
    for task in tasks:
        check_data(task.config, ('train', 'val'))
    for warning in unfit_batches(tasks, launch.gpus or 1):
        console.print(warning, style='yellow', highlight=False, markup=False)
    failures: dict[str, str] = {}

    def fail(task: Task, failure: str) -> None:
        failures[task.run.name] = failure
        console.print(f'failed: {failure}', highlight=False, markup=False)

    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[unit]}, left:'),
        TimeRemainingColumn(compact=True),
    )
    waiting = deque(enumerate(tasks, 1))
    running: list[Training] = []
    done = 0
    # no estimate from the last few seconds: a pace is that of minutes, evaluations included
    with (
        interruptions_kept() as interruptions,
        Progress(*columns, console=console, speed_estimate_period=1800) as progress,
    ):
        total = sum(task.epochs for task in tasks)
        whole = progress.add_task('all runs', total=total, unit='epochs')
        try:
            while (waiting or running) and not interruptions:
                while waiting and len(running) < launch.jobs and not interruptions:
                    number, task = waiting.popleft()
                    title = f'run {number} of {len(tasks)}: {task.run.name}'
                    console.print(title, highlight=False, markup=False)
                    try:
                        taken = {training.place for training in running}
                        place = min(set(range(launch.jobs)) - taken)
                        running.append(Training(task, launch, progress, place))
                    except UserError as error:
                        fail(task, str(error))
                        done += task.epochs
                time.sleep(POLL)
                for training in [training for training in running if training.has_ended()]:
                    running.remove(training)
                    done += training.task.epochs
                    if failure := training.failure():
                        fail(training.task, failure)
                trained = sum(training.update() for training in running)
                progress.update(whole, completed=done + trained)
        finally:
            end(running, interruptions)
    return failures


def unfit_batches(tasks: Sequence[Task], processes: int) -> list[str]:
    """Warn of trainings whose learning rate was made for another batch than will run."""
    labels: dict[tuple[int, int], dict[str, None]] = {}
    for task in tasks:
        if unfit := unfit_batch(task.config, processes):
            labels.setdefault(unfit, {})[task.entry.label] = None
    return [
        f'The learning rate of {counted(len(same), "config")} ({listing(list(same))}) is made for '
        f'batches of {meant} images, but {batch} will run: give as many --gpus as make that batch, '
        'or --cfg-options auto_scale_lr.enable=True to scale it.'
        for (batch, meant), same in labels.items()
    ]


@contextmanager
def interruptions_kept() -> Iterator[list[int]]:
    """List the signals that ask for an end, and have them take their effect behind the block.

    An exception at any moment could come between the start of a process and the note of it.
    """
    kept: list[int] = []
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)  # as nohup has it
    ]
    before = {number: signal.signal(number, lambda n, _: kept.append(n)) for number in numbers}
    try:
        yield kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in kept[:1]:
            signal.raise_signal(number)


class Training:
    """A training in a process of its own, with its line of the progress display.

    Args:
        task: What to train.
        launch: How.
        progress: The display.
        place: Which of the trainings at one time it is, see :meth:`Launch.environment`.

    Raises:
        UserError: If what stands of the run cannot be gone on from.
    """

    def __init__(self, task: Task, launch: Launch, progress: Progress, place: int) -> None:
        folder = task.run.folder
        # mmengine evaluates behind an epoch that it trains, so the last one is trained anew
        checkpoint = newest_checkpoint(folder, before=task.epochs)
        if checkpoint is None and newest_checkpoint(folder):
            raise UserError(
                f'{folder} holds only the checkpoint of the last epoch, which is not evaluated; '
                'delete the folder to train anew'
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.task = task
        self.place = place
        self._progress = progress
        self._line = progress.add_task(task.run.name, total=task.epochs, unit='epochs')
        with task.log.open('a', encoding='utf-8') as log:
            self.process = subprocess.Popen(
                launch.command(task, checkpoint),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=launch.environment(place),
            )

    def update(self) -> float:
        """Show how far it is, and return it, in epochs."""
        trained = min(epochs_in(self.task.log), self.task.epochs)
        self._progress.update(self._line, completed=trained)
        return trained

    def has_ended(self) -> bool:
        """Tell whether the process has ended; its line is then taken away."""
        if self.process.poll() is None:
            return False
        self._progress.remove_task(self._line)
        return True

    def failure(self) -> str:
        """Return what went wrong with an ended training, '' if nothing did."""
        task = self.task
        if self.process.returncode:
            return f'{task.run.name} ended with status {self.process.returncode}, see {task.log}'
        run = read_run(task.run.folder, task.entry.label, task.config)
        if run.state is State.UNFINISHED:
            return f'{task.run.name} ended early ({run.reason}), see {task.log}'
        return ''


def end(trainings: Sequence[Training], interruptions: Sequence[int]) -> None:
    """Leave no training behind when this process is interrupted.

    Args:
        trainings: All that run.
        interruptions: Signals that came; one more ends the patience with the trainings.
    """
    processes = [training.process for training in trainings]
    came, patience = len(interruptions), time.monotonic() + GRACE
    for process in processes:
        process.terminate()
    while any(process.poll() is None for process in processes):
        if len(interruptions) > came or time.monotonic() > patience:
            for process in processes:
                process.kill()
        time.sleep(0.05)


def epochs_in(log: Path) -> float:
    """Return how many epochs a training has done, by the last line of its output that tells."""
    with log.open('rb') as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        found = EPOCH.findall(file.read().decode(errors='replace'))
    if not found:
        return 0.0
    epoch, iteration, iterations = map(int, found[-1])
    return epoch - 1 + iteration / iterations
