"""Test which runs are trained, where, and what is reported about them."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dsnet_mm.comparison import scheduler
from dsnet_mm.comparison.scheduler import Launch, Task, to_do, train_all
from dsnet_mm.comparison.work_dir_reader import Run, State, read_run
from helpers.recorded_runs import CONFIG, entry, write_run


def test_commands():
    run = Run('retinanet', Path('work'), 2)
    task = Task(entry('configs/retinanet'), run, CONFIG)
    command = Launch('data', ['train_cfg.max_epochs=1'], gpus=4).command(task)
    program = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
               '4', '-m', 'dsnet_mm', 'train']  # fmt: skip
    assert command == [*program, 'configs/retinanet.py', '--work-dir', 'work', '--resume',
                       '--launcher', 'pytorch', '--data-root', 'data', '--cfg-options',
                       'train_cfg.max_epochs=1', 'randomness.seed=2']  # fmt: skip
    plain = Launch().command(Task(entry('c'), Run('c', Path('w')), CONFIG))
    assert plain == [sys.executable, '-m', 'dsnet_mm', 'train', 'c.py', '--work-dir', 'w',
                     '--resume']  # fmt: skip


def test_what_is_to_be_done_is_the_missing_and_the_unfinished_seed_by_seed():
    states = [State.FINISHED, State.UNFINISHED, State.DIVERGED, State.MISSING]
    runs = [
        (entry(label), Run(label, Path(label), seed, state))
        for label in 'ab'
        for seed, state in enumerate(states)
    ]
    tasks = to_do(runs, lambda entry: CONFIG)
    assert [(t.run.label, t.run.seed) for t in tasks] == [('a', 1), ('b', 1), ('a', 3), ('b', 3)]


FAKE = """
import sys, pathlib
folder = pathlib.Path(sys.argv[1])
if folder.parent.name == 'broken':
    sys.exit('out of memory')
(folder / 'run.json').write_text(sys.argv[2])
"""


@pytest.fixture
def fake_training(monkeypatch, tmp_path):
    """Trainings that end at once."""
    facts = (write_run(tmp_path / 'fake', bbox=40) / 'run.json').read_text()

    def command(launch, task):
        return [sys.executable, '-c', FAKE, str(task.run.folder), facts]

    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(Launch, 'command', command)


def tasks_in(folder: Path, *labels: str) -> list[Task]:
    return [
        Task(entry(label), Run(label, folder / label / 'seed_0', 0), CONFIG) for label in labels
    ]


def test_a_failing_run_is_named_and_the_others_go_on(tmp_path, fake_training):
    console = Console(record=True, width=200)
    tasks = tasks_in(tmp_path, 'broken', 'good')
    failures = train_all(tasks, Launch(), console)
    log = tmp_path / 'broken' / 'seed_0' / 'train.log'
    assert failures == {'broken, seed 0': f'broken, seed 0 ended with status 1, see {log}'}
    assert 'out of memory' in log.read_text()
    assert read_run(tmp_path / 'good' / 'seed_0', 'good', CONFIG).state is State.FINISHED
    printed = console.export_text()
    assert 'run 2 of 2: good, seed 0' in printed


def test_a_training_that_ends_early_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(Launch, 'command', lambda *args: [sys.executable, '-c', ''])
    (task,) = tasks_in(tmp_path, 'good')
    write_run(task.run.folder, epochs=2, bbox=40)
    failures = train_all([task], Launch(), Console(record=True))
    early = f'ended early (2 of 3 epochs are trained), see {task.log}'
    assert failures == {'good, seed 0': f'good, seed 0 {early}'}


def test_a_batch_that_will_not_fit_is_warned_of(tmp_path, fake_training):
    """Within the training itself, the warning would be in its log alone."""
    config = copy.deepcopy(CONFIG)
    config.train_dataloader = dict(batch_size=2, dataset=dict())
    config.auto_scale_lr = dict(base_batch_size=16)
    for gpus, warned in ((8, False), (None, True)):
        folder = tmp_path / str(gpus)
        tasks = [replace(task, config=config) for task in tasks_in(folder, 'good')]
        console = Console(record=True, width=400)
        assert train_all(tasks, Launch(gpus=gpus), console) == {}
        assert ('batches of 16 images, but 2 will run' in console.export_text()) is warned


WAITS = """
import pathlib, sys, time
mine = pathlib.Path(sys.argv[1])
other = mine.parents[1] / {'one': 'two', 'two': 'one'}[mine.parent.name] / mine.name
(mine / 'here').touch()
waited = time.monotonic() + float(sys.argv[2])
while not (other / 'here').exists():
    if time.monotonic() > waited:
        sys.exit('alone')
    time.sleep(0.01)
(mine / 'there').touch()
"""


@pytest.mark.parametrize(('jobs', 'patience'), [(1, 0.0), (2, 60.0)])
def test_jobs_are_trained_at_the_same_time(tmp_path, monkeypatch, jobs, patience):
    def command(launch, task):
        return [sys.executable, '-c', WAITS, str(task.run.folder), str(patience)]

    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(Launch, 'command', command)
    console = Console(record=True, width=200)
    train_all(tasks_in(tmp_path, 'one', 'two'), Launch(jobs=jobs), console)
    met = sorted(path.parent.parent.name for path in tmp_path.rglob('there'))
    # one after the other, only the second meets what the first left behind
    assert met == (['two'] if jobs == 1 else ['one', 'two'])


def test_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr(scheduler.os, 'sched_getaffinity', lambda pid: set(range(6)))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    for jobs, threads in ((1, None), (2, '3'), (9, '1')):
        assert Launch(jobs=jobs).environment(0).get('OMP_NUM_THREADS') == threads
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    assert Launch(jobs=2).environment(0)['OMP_NUM_THREADS'] == '4'


@pytest.mark.parametrize(
    ('seen', 'count', 'jobs', 'taken'),
    [
        (None, 2, 3, ['0', '1', '0']),
        ('3, GPU-a,5', 3, 2, ['3', 'GPU-a']),
        ('3,5,-1,6', 2, 3, ['3', '5', '3']),  # CUDA sees none from -1 on
        (None, 1, 2, [None, None]),
        ('', 0, 2, ['', '']),
        (None, 2, 1, [None]),
    ],
)
def test_jobs_take_the_gpus_in_turn(monkeypatch, seen, count, jobs, taken):
    monkeypatch.setattr(scheduler.torch.cuda, 'device_count', lambda: count)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if seen is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', seen)
    launch = Launch(jobs=jobs)
    assert [launch.environment(place).get('CUDA_VISIBLE_DEVICES') for place in range(jobs)] == taken


def test_a_training_gets_the_gpu_of_the_one_that_ended(tmp_path, monkeypatch):
    """The first one is there until the others, which share the second GPU, have ended."""
    script = """
import os, pathlib, sys, time
mine = pathlib.Path(sys.argv[1])
(mine / 'gpu').write_text(os.environ['CUDA_VISIBLE_DEVICES'])
while mine.parent.name == 'one' and not (mine.parents[1] / 'three/seed_0/gpu').exists():
    time.sleep(0.01)
"""

    def command(launch, task):
        return [sys.executable, '-c', script, str(task.run.folder)]

    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(Launch, 'command', command)
    monkeypatch.setattr(scheduler.torch.cuda, 'device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    train_all(tasks_in(tmp_path, 'one', 'two', 'three'), Launch(jobs=2), Console(record=True))
    gpus = {path.parents[1].name: path.read_text() for path in tmp_path.rglob('gpu')}
    assert gpus == dict(one='0', two='1', three='1')


STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_a_training_starts_loses_sight_of_none(tmp_path, monkeypatch, number):
    """A second one does not wait for a training that will not end."""
    started, ready = [], tmp_path / 'ready'

    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)
            while not ready.exists():
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        def terminate(self):
            super().terminate()
            os.kill(os.getpid(), number)

    def command(launch, task):
        return [sys.executable, '-c', STUBBORN, str(ready)]

    monkeypatch.setattr(Launch, 'command', command)
    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(scheduler, 'GRACE', 30.0)
    monkeypatch.setattr(scheduler.subprocess, 'Popen', Interrupted)
    # as tools/compare.py has SIGTERM; SIGINT is ignored where the tests run in the background
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(each, signal.default_int_handler) for each in numbers]
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_all(tasks_in(tmp_path, 'good'), Launch(), Console(record=True))
        assert started[0].poll() is not None
        assert time.monotonic() < begin + 30
    finally:
        for each, handler in zip(numbers, before, strict=True):
            signal.signal(each, handler)
        for process in started:
            process.kill()
