"""Test which runs count, and which figures are read from them."""

from __future__ import annotations

import copy
import math

import pytest
from mmengine.config import Config

from dsnet_mm.comparison.work_dir_reader import FIGURES, State, find_runs, read_run
from dsnet_mm.engine import run_file
from dsnet_mm.engine.run_file import RunFile, plain
from helpers.recorded_runs import CONFIG, MASKS, change_run, entry, write_run


def test_a_finished_run_is_read(tmp_path):
    run = read_run(write_run(tmp_path, seed=3, bbox=36.5), 'model', CONFIG)
    assert (run.state, run.reason, run.seed, run.name) == (
        State.FINISHED, '', 3, 'model, seed 3')  # fmt: skip
    assert run.altered == ()
    assert run.ap['box'] == pytest.approx(dict.fromkeys(FIGURES, 36.5))
    assert (run.seconds, run.memory) == (30, 903)


def test_figures_are_those_of_the_last_epoch_and_each_in_its_place(tmp_path):
    values = (0.365, 0.554, 0.391, 0.204, -1.0, 0.482)  # no objects of medium size
    last = {f'coco/bbox_{name}': value for name, value in zip(FIGURES, values, strict=True)}
    write_run(tmp_path, config=MASKS, bbox=50, segm=34.7)
    facts = RunFile.read(tmp_path)
    facts.evaluations[-1]['metrics'] |= last
    facts.write(tmp_path)
    run = read_run(tmp_path, 'model', MASKS)
    assert run.ap['box'] == pytest.approx(
        dict(mAP=36.5, mAP_50=55.4, mAP_75=39.1, mAP_s=20.4, mAP_m=math.nan, mAP_l=48.2),
        nan_ok=True,
    )
    assert run.ap['mask']['mAP'] == pytest.approx(34.7)


def test_the_time_is_unknown_if_an_epoch_has_no_record(tmp_path):
    """Such as after resuming a training of mmdet."""
    write_run(tmp_path, bbox=40)
    change_run(tmp_path, epochs=RunFile.read(tmp_path).epochs[1:])
    run = read_run(tmp_path, 'model', CONFIG)
    assert (run.state, run.seconds) == (State.FINISHED, None)


def test_altered_settings_are_named(tmp_path):
    ran, config = copy.deepcopy(CONFIG), copy.deepcopy(CONFIG)
    ran.model.backbone = dict(depths=(2, 2))
    ran.train_dataloader = dict(batch_size=4, dataset=dict(data_root='here'))
    config.model.backbone = dict(depths=[2, 4])
    config.train_dataloader = dict(batch_size=2, dataset=dict(data_root='there'))
    write_run(tmp_path, bbox=40, config=ran)
    run = read_run(tmp_path, 'model', config)
    assert run.altered == ('model.backbone.depths.1 = 2', 'train_dataloader.batch_size = 4')


@pytest.mark.parametrize(
    ('more', 'named'),
    [
        (dict(custom_hooks=[dict(type='EMAHook')]), 'custom_hooks.0.type = EMAHook'),
        # on fewer images; neither their batch nor their folder matters
        (
            dict(val_dataloader=dict(batch_size=9, dataset=dict(indices=2, data_root='a'))),
            'val_dataloader.dataset.indices = 2',
        ),
    ],
    ids=['hook', 'evaluation'],
)
def test_a_setting_that_the_config_lacks_is_named(tmp_path, more, named):
    write_run(tmp_path, bbox=40, config=Config(dict(CONFIG, **more)))
    assert read_run(tmp_path, 'model', CONFIG).altered == (named,)


@pytest.mark.parametrize('meant', [None, 'weights.pth'])
def test_other_weights_at_the_start_are_named(tmp_path, meant):
    write_run(tmp_path, bbox=40)
    change_run(tmp_path, load_from=meant)
    same, other = (Config(dict(CONFIG, load_from=name)) for name in (meant, 'others.pth'))
    assert read_run(tmp_path, 'model', same).altered == ()
    assert read_run(tmp_path, 'model', other).altered == (f'load_from = {meant}',)


def test_a_batch_that_does_not_fit_the_learning_rate_is_named(tmp_path):
    """Even if only some epochs had it."""
    scaled = dict(base_batch_size=16)
    config = Config(dict(CONFIG, auto_scale_lr=scaled))
    write_run(tmp_path, bbox=40, config=config)
    assert read_run(tmp_path, 'model', config).altered == ()
    facts = RunFile.read(tmp_path)
    facts.epochs[0]['batch_size'] = 8
    facts.write(tmp_path)
    named = ('batches of 8 images at the learning rate for 16',)
    assert read_run(tmp_path, 'model', config).altered == named
    change_run(
        tmp_path, config=plain(Config(dict(CONFIG, auto_scale_lr=dict(scaled, enable=True))))
    )
    assert read_run(tmp_path, 'model', config).altered == ()


def test_a_training_that_was_stopped_has_diverged(tmp_path):
    write_run(tmp_path, epochs=2, bbox=40)
    reason = 'the loss is not finite at iteration 50'
    change_run(tmp_path, state=run_file.State.STOPPED, reason=reason)
    run = read_run(tmp_path, 'model', CONFIG)
    assert (run.state, run.reason) == (State.DIVERGED, reason)
    change_run(tmp_path, state=run_file.State.FAILED, reason='the disk is full')
    run = read_run(tmp_path, 'model', CONFIG)
    assert run.state is State.UNFINISHED
    assert run.reason == '2 of 3 epochs are trained (failed: the disk is full)'


BROKEN = {
    'unfinished': (dict(epochs=2, bbox=40), '2 of 3 epochs are trained'),
    'unevaluated': (dict(evaluated=False), 'but the last epoch is not evaluated'),
    'shorter': (dict(epochs=1, max_epochs=1, bbox=40), '1 of 3 epochs are trained'),
    'empty': (dict(), 'has no box AP: nothing was detected'),
    'no objects': (dict(bbox=-1), 'has no box AP: the images hold no objects'),
}


@pytest.mark.parametrize('kind', [*BROKEN, 'not a number'])
def test_a_run_that_does_not_count_says_why(tmp_path, kind):
    options, reason = BROKEN.get(kind, (dict(bbox=40), 'the loss is nan at the end of epoch 3'))
    write_run(tmp_path, **options)
    if kind == 'not a number':
        facts = RunFile.read(tmp_path)
        facts.epochs[-1]['loss'] = math.nan
        facts.write(tmp_path)
    run = read_run(tmp_path, 'model', CONFIG)
    diverged = kind in ('empty', 'no objects', 'not a number')
    assert run.state is (State.DIVERGED if diverged else State.UNFINISHED)
    assert reason in run.reason
    assert run.ap == {}


@pytest.mark.parametrize('content', [None, '{"state": "finished", "epo'])
def test_a_work_dir_without_a_readable_run_file_says_what_to_do(tmp_path, content):
    folder = tmp_path / 'model' / 'seed_4'
    folder.mkdir(parents=True)
    (folder / 'epoch_3.pth').touch()
    if content:
        (folder / 'run.json').write_text(content)
    (run,) = find_runs(tmp_path, entry('model'), 1, lambda entry: CONFIG)
    assert (run.state, run.seed) == (State.UNFINISHED, 4)
    assert f'{folder} has checkpoints but no readable run.json' in run.reason


def test_runs_are_found_by_seed_or_alone_and_the_missing_are_named(tmp_path):
    write_run(tmp_path / 'model' / 'seed_1', seed=1, bbox=40)
    (tmp_path / 'model' / 'notes').mkdir()
    alone = write_run(tmp_path / 'alone', seed=None, bbox=40)
    first = find_runs(tmp_path, entry('model'), 2, lambda entry: CONFIG)
    assert [(run.seed, run.state) for run in first] == [(1, State.FINISHED), (0, State.MISSING)]
    (run,) = find_runs(tmp_path, entry('alone'), 1, lambda entry: CONFIG)
    assert (run.folder, run.seed, run.name) == (alone, None, 'alone')
    assert [run.seed for run in find_runs(tmp_path, entry('none'), 2, None)] == [0, 1]


def test_no_seed_is_trained_twice(tmp_path):
    """A run of tools/train.py may have a seed too, that of its config."""
    write_run(tmp_path / 'model', seed=0, bbox=40)
    runs = find_runs(tmp_path, entry('model'), 3, lambda entry: CONFIG)
    assert [(run.seed, run.folder.name) for run in runs] == [
        (0, 'model'), (1, 'seed_1'), (2, 'seed_2')]  # fmt: skip
