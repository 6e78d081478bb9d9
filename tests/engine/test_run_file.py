"""What a training writes into run.json, and how a later start uses it."""

from __future__ import annotations

import json
import shutil

import pytest
from mmdet.evaluation import CocoMetric
from mmdet.models import RetinaNet
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from dsnet_mm.engine import train as training
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.run_file import RunFile, State
from dsnet_mm.engine.train import train
from dsnet_mm.errors import UserError
from helpers.detectors import TINY_DETECTOR

CONFIG = f"""{TINY_DETECTOR}train_dataloader = dict(batch_size=4, **loader)
val_dataloader = dict(**loader)
test_dataloader = dict(**loader)
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = []
randomness = dict(seed=7)
"""


@pytest.fixture
def run(tmp_path, shapes_root, monkeypatch):
    """Train in ``tmp_path / 'work'``; AP is the number of the evaluation."""
    path, count = tmp_path / 'config.py', iter(range(1, 100))
    path.write_text(CONFIG)
    monkeypatch.setattr(
        CocoMetric, 'compute_metrics', lambda *args: dict(bbox_mAP=next(count) / 100)
    )

    def run(work_dir='work', resume=None, **options):
        options = {name.replace('__', '.'): value for name, value in options.items()}
        cfg = load_config(str(path), str(tmp_path / work_dir), options, str(shapes_root))
        return train(cfg, resume=resume)

    return run


def test_a_training_records_its_facts(run, tmp_path):
    metrics = run()
    assert metrics == {'coco/bbox_mAP': 0.02}
    facts = RunFile.read(tmp_path / 'work')
    assert (facts.state, facts.reason, facts.epoch, facts.max_epochs) == (State.FINISHED, '', 2, 2)
    assert (facts.seed, facts.world_size, facts.batch_size) == (7, 1, 8)
    assert facts.load_from is None
    assert facts.metrics == metrics
    assert [(e['epoch'], e['batch_size']) for e in facts.epochs] == [(1, 8), (2, 8)]
    assert all(e['seconds'] > 0 and e['loss'] > 0 for e in facts.epochs)
    assert [(e['epoch'], e['iteration']) for e in facts.evaluations] == [(1, 2), (2, 4)]
    assert facts.config['model']['backbone']['arch']['embed_dims'] == [8, 16, 32, 32]


def test_a_finished_training_is_not_resumed(run, tmp_path, monkeypatch):
    metrics = run()
    before = (tmp_path / 'work' / 'run.json').read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(training, 'build_runner', None)  # nothing is built
        assert run(resume='auto') == metrics
    assert (tmp_path / 'work' / 'run.json').read_bytes() == before
    run(resume='auto', train_cfg__max_epochs=3)
    facts = RunFile.read(tmp_path / 'work')
    assert [e['epoch'] for e in facts.epochs] == [1, 2, 3]
    assert [e['metrics']['coco/bbox_mAP'] for e in facts.evaluations] == [0.01, 0.02, 0.03]


def test_a_training_killed_before_its_last_evaluation_is_evaluated(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RetinaNet, 'predict', None)  # the evaluation fails
        with pytest.raises(TypeError):
            run(train_cfg__val_begin=2)
    facts = RunFile.read(tmp_path / 'work')
    assert (facts.state, facts.epoch, facts.evaluations) == (State.FAILED, 2, [])
    with monkeypatch.context() as patch:
        patch.setattr(EpochBasedTrainLoop, 'run_epoch', None)  # nothing is trained
        assert run(resume='auto', train_cfg__val_begin=2) == {'coco/bbox_mAP': 0.01}
    facts = RunFile.read(tmp_path / 'work')
    assert (facts.state, facts.reason, len(facts.epochs)) == (State.FINISHED, '', 2)
    assert [e['epoch'] for e in facts.evaluations] == [2]


def test_a_resumed_training_continues_the_record_of_its_checkpoint(run, tmp_path):
    run()
    first = RunFile.read(tmp_path / 'work')
    first.load_from = 'weights.pth'
    first.write(tmp_path / 'work')
    shutil.copytree(tmp_path / 'work', tmp_path / 'elsewhere')
    checkpoint = tmp_path / 'elsewhere' / 'epoch_1.pth'
    run('other', str(checkpoint), train_dataloader__batch_size=2)
    facts = RunFile.read(tmp_path / 'other')
    assert facts.load_from == 'weights.pth'
    assert facts.epochs[0] == first.epochs[0]
    assert [e['batch_size'] for e in facts.epochs] == [8, 4]
    assert [e['epoch'] for e in facts.evaluations] == [1, 2]
    (tmp_path / 'elsewhere' / 'run.json').unlink()  # a training of mmdet
    run('other', str(checkpoint))
    facts = RunFile.read(tmp_path / 'other')
    assert facts.load_from == str(checkpoint)
    assert [e['epoch'] for e in facts.epochs] == [2]


def test_a_training_begun_anew_replaces_the_record(run, tmp_path):
    run()
    run(train_cfg__max_epochs=1)
    facts = RunFile.read(tmp_path / 'work')
    assert [e['epoch'] for e in facts.epochs] == [1]
    assert [e['metrics']['coco/bbox_mAP'] for e in facts.evaluations] == [0.03]


def test_a_loss_that_is_not_finite_is_recorded(run, tmp_path):
    with pytest.raises(UserError):
        run(optim_wrapper__optimizer__lr=1e30, optim_wrapper__clip_grad=None)
    facts = RunFile.read(tmp_path / 'work')
    assert facts.state is State.STOPPED
    assert facts.reason.startswith('the ')
    assert ' is not finite at iteration ' in facts.reason
    run(optim_wrapper__optimizer__lr=1e30, optim_wrapper__clip_grad=None, custom_hooks=[])
    text = (tmp_path / 'work' / 'run.json').read_text()
    facts = json.loads(text, parse_constant=pytest.fail)  # other readers know no NaN
    assert facts['epochs'][-1]['loss'] == 'nan'


@pytest.mark.parametrize(
    ('error', 'state', 'reason'),
    [
        (KeyboardInterrupt(), State.INTERRUPTED, 'KeyboardInterrupt'),
        (UserError('the disk is full'), State.FAILED, 'the disk is full'),
    ],
)
def test_the_end_of_a_training_is_recorded(run, tmp_path, monkeypatch, error, state, reason):
    def fail(hook, runner):
        assert RunFile.read(tmp_path / 'work').state is State.RUNNING
        raise error

    monkeypatch.setattr(CheckpointHook, 'after_train_epoch', fail)
    with pytest.raises(type(error)):
        run()
    facts = RunFile.read(tmp_path / 'work')
    assert (facts.state, facts.reason, facts.epoch) == (state, reason, 1)


def test_a_training_that_does_not_begin_leaves_the_record(run, tmp_path, monkeypatch):
    run()
    before = (tmp_path / 'work' / 'run.json').read_bytes()
    monkeypatch.setattr(Runner, 'load_or_resume', lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
    assert (tmp_path / 'work' / 'run.json').read_bytes() == before
