"""Train the runs that a comparison lacks, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dsnet_mm.data.locate import check_data
from dsnet_mm.engine.distributed import unfit_batch
from dsnet_mm.engine.run_file import RunFile
from dsnet_mm.errors import counted, listing

from .suites import Entry
from .work_dir_reader import Run, State, read_run

POLL = 1.0  # seconds between two checks of a training
GRACE = 20.0  # seconds that an interrupted training has to end by itself


@dataclass(frozen=True)
class Task:
    """A training to run."""

    entry: Entry
    run: Run  # the state of the run so far
    config: Config  # the entry's config with the options of all runs

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole training."""
        return self.config.train_cfg.max_epochs

    @property
    def log(self) -> Path:
        """File for the output of the training."""
        return self.run.folder / 'train.log'


@dataclass(frozen=True)
class Launch:
    """How trainings are started."""

    data_root: str | None = None  # folder of the dataset, None for the folder in the configs
    options: Sequence[str] = field(default=())  # settings of the configs, as ``key=value``
    # processes of a training, one per GPU; None to train without a launcher
    gpus: int | None = None
    jobs: int = 1  # number of concurrent trainings

    def environment(self, place: int) -> dict[str, str]:
        """Return the environment of a training, which shares cores and GPUs with the others.

        Args:
            place: Number of the training among the concurrent ones, from 0. Places use the GPUs
                that this process sees in turn.
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

    def command(self, task: Task) -> list[str]:
        """Return the command of a training, which resumes what is trained already."""
        command = [sys.executable]
        if self.gpus is not None:
            # standalone: on a port of its own, next to other trainings on the machine
            command += ['-m', 'torch.distributed.run', '--standalone']
            command += ['--nproc_per_node', str(self.gpus)]
        command += ['-m', 'dsnet_mm', 'train', str(task.entry.config)]
        command += ['--work-dir', str(task.run.folder), '--resume']
        if self.gpus is not None:
            command += ['--launcher', 'pytorch']
        if self.data_root is not None:
            command += ['--data-root', self.data_root]
        seed = [] if task.run.seed is None else [f'randomness.seed={task.run.seed}']
        options = [*self.options, *seed]
        return [*command, '--cfg-options', *options] if options else command


def to_do(runs: Sequence[tuple[Entry, Run]], load: Callable[[Entry], Config]) -> list[Task]:
    """Return tasks for the missing and the unfinished runs, one seed after the other."""
    tasks = [
        Task(entry, run, load(entry))
        for entry, run in runs
        if run.state in (State.MISSING, State.UNFINISHED)
    ]
    return sorted(tasks, key=lambda task: task.run.seed or 0)


def train_all(tasks: Sequence[Task], launch: Launch, console: Console) -> dict[str, str]:
    """Train in order, ``launch.jobs`` at a time; a failure does not stop the other trainings.

    After an interruption, the next call continues after the last complete epoch. A second
    interruption kills the trainings at once.

    Returns:
        What failed, by the name of the run.

    Raises:
        UserError: If data are missing.
    """
    for task in tasks:
        check_data(task.config, ('train', 'val'))
    for warning in unfit_batches(tasks, launch.gpus or 1):
        console.print(warning, style='yellow', highlight=False, markup=False)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('epochs, left:'),
        TimeRemainingColumn(compact=True),
    )
    failures: dict[str, str] = {}
    trained: dict[str, int] = {}
    places = deque(range(launch.jobs))
    with (
        interruptions_kept() as interruptions,
        # the pace of half an hour: evaluations make the pace of seconds uneven
        Progress(*columns, console=console, speed_estimate_period=1800) as progress,
        ThreadPoolExecutor(launch.jobs) as pool,
    ):
        line = progress.add_task('all runs', total=sum(task.epochs for task in tasks))

        def show(task: Task, epochs: int) -> None:
            trained[task.run.name] = epochs
            progress.update(line, completed=sum(trained.values()))

        def train(number: int, task: Task) -> None:
            if interruptions:
                return
            title = f'run {number} of {len(tasks)}: {task.run.name}'
            console.print(title, highlight=False, markup=False)
            place = places.popleft()
            failure = run_child(task, launch, place, interruptions, show)
            places.append(place)
            if failure and not interruptions:
                failures[task.run.name] = failure
                console.print(f'failed: {failure}', highlight=False, markup=False)
            show(task, task.epochs)

        list(pool.map(train, range(1, len(tasks) + 1), tasks))
    return failures


def run_child(
    task: Task,
    launch: Launch,
    place: int,
    interruptions: Sequence[int],
    show: Callable[[Task, int], None],
) -> str:
    """Train in a process of its own, and call ``show`` with the number of trained epochs.

    The first of the interruptions ends the process, the second kills it.

    Returns:
        What failed, or ''.
    """
    task.run.folder.mkdir(parents=True, exist_ok=True)
    with task.log.open('a', encoding='utf-8') as log:
        process = subprocess.Popen(
            launch.command(task),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=launch.environment(place),
        )
    try:
        while process.poll() is None and not interruptions:
            time.sleep(POLL)
            facts = RunFile.read(task.run.folder)
            show(task, min(facts.epoch, task.epochs) if facts else 0)
    finally:
        end(process, interruptions)
    if process.returncode:
        return f'{task.run.name} ended with status {process.returncode}, see {task.log}'
    run = read_run(task.run.folder, task.entry.label, task.config)
    if run.state is State.UNFINISHED:
        return f'{task.run.name} ended early ({run.reason}), see {task.log}'
    return ''


def end(process: subprocess.Popen, interruptions: Sequence[int]) -> None:
    """End a process that still runs; kill it after some time or a second interruption."""
    if process.poll() is None:
        process.terminate()
    patience = time.monotonic() + GRACE
    while process.poll() is None:
        if len(interruptions) > 1 or time.monotonic() > patience:
            process.kill()
        time.sleep(0.05)


def unfit_batches(tasks: Sequence[Task], processes: int) -> list[str]:
    """Return warnings about trainings whose learning rate is for another batch size."""
    labels: dict[tuple[int, int], dict[str, None]] = {}
    for task in tasks:
        if unfit := unfit_batch(task.config, processes):
            labels.setdefault(unfit, {})[task.entry.label] = None
    return [
        f'The learning rate of {counted(len(same), "config")} ({listing(list(same))}) is for '
        f'batches of {base} images, but {batch} will run: choose --gpus to get that batch size, or '
        'pass --cfg-options auto_scale_lr.enable=True to scale the learning rate.'
        for (batch, base), same in labels.items()
    ]


@contextmanager
def interruptions_kept() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP, and re-raise the first of them on exit.

    An exception at any moment could lose a process that has just been started.
    """
    kept: list[int] = []
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)  # as under nohup
    ]
    before = {number: signal.signal(number, lambda n, _: kept.append(n)) for number in numbers}
    try:
        yield kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received in kept[:1]:
            signal.raise_signal(received)
