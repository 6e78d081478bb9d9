"""The comparison: what runs it counts, what it makes of them, and that it finishes its runs."""

from __future__ import annotations

import copy
import csv
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, dsnet_mm_ends
from mmengine.config import Config
from rich.console import Console

from dsnet_mm.comparison import cost, scheduler, suites, verdict
from dsnet_mm.comparison.paper_claims import PUBLISHED
from dsnet_mm.comparison.plot import plot
from dsnet_mm.comparison.scheduler import Launch, Task, to_do, train_all
from dsnet_mm.comparison.suites import SUITES, Entry, Part, Question, Suite, get_suite
from dsnet_mm.comparison.summary import Cost, Result, Summary, pooled_spread
from dsnet_mm.comparison.table import to_csv, to_markdown
from dsnet_mm.comparison.verdict import Answer, answer
from dsnet_mm.comparison.work_dir_reader import (
    FIGURES,
    Run,
    State,
    find_runs,
    read_run,
)
from dsnet_mm.data.shapes import ShapesDetection
from dsnet_mm.engine import config as config_reader
from dsnet_mm.engine import run_file
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.run_file import RunFile, plain
from dsnet_mm.engine.train import train

EPOCHS = 3  # of the recorded trainings
CONFIG = Config(dict(model=dict(type='RetinaNet'), train_cfg=dict(max_epochs=EPOCHS)))
MASKS = Config(dict(model=dict(roi_head=dict(mask_head=dict())), train_cfg=dict(max_epochs=EPOCHS)))


def figures(**ap):
    """Metrics as mmdet reports them, all six figures of a kind the same; -1 for no objects."""
    return {
        f'coco/{kind}_{figure}': round(value / 100, 3) if value >= 0 else value
        for kind, value in ap.items()
        for figure in FIGURES
    }


def write_run(folder: Path, epochs=EPOCHS, seed=0, evaluated=True, max_epochs=EPOCHS, config=None,
              **ap):  # fmt: skip
    """Record a training of so many epochs that was evaluated after each of them."""
    config = copy.deepcopy(config or CONFIG)
    config.train_cfg.max_epochs = max_epochs
    facts = RunFile(
        run_file.State.FINISHED if epochs == max_epochs else run_file.State.RUNNING,
        epoch=epochs,
        max_epochs=max_epochs,
        seed=seed,
        batch_size=16,
        config=plain(config),
    )
    for epoch in range(1, epochs + 1):
        facts.epochs.append(
            dict(epoch=epoch, loss=1.5, seconds=10.0, memory=900 + epoch, batch_size=16)
        )
        if evaluated:
            facts.evaluations.append(dict(epoch=epoch, iteration=20 * epoch, metrics=figures(**ap)))
    folder.mkdir(parents=True, exist_ok=True)
    facts.write(folder)
    return folder


def change(folder: Path, **facts):
    """Replace facts of a recorded training."""
    replace(RunFile.read(folder), **facts).write(folder)


def entry(label, model='DS-Net-S*', **more):
    return Entry(Path(f'{label}.py'), 'RetinaNet', model, **more)


def finished(label, *box, model='DS-Net-S*', mask=(), **more):
    """A detector whose runs ended with these AP."""
    pairs = [(value, None) for value in box] or [(1.0, value) for value in mask]
    runs = [
        Run(label, Path(label), seed, State.FINISHED, '', 3, 3,
            {'box': {'mAP': b}} | ({} if m is None else {'mask': {'mAP': m}}), 3600.0)
        for seed, (b, m) in enumerate(pairs)
    ]  # fmt: skip
    return Result(entry(label, model, **more), runs, Cost(32_740_000, 281_500_000_000))


# ---- reading a run


def test_a_finished_run_is_read(tmp_path):
    run = read_run(write_run(tmp_path, seed=3, bbox=36.5), 'model', CONFIG)
    assert (run.state, run.reason, run.seed, run.name) == (
        State.FINISHED, '', 3, 'model, seed 3')  # fmt: skip
    assert (run.epochs, run.max_epochs, run.altered) == (3, 3, ())
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
    change(tmp_path, epochs=RunFile.read(tmp_path).epochs[1:])
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
    change(tmp_path, load_from=meant)
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
    change(tmp_path, config=plain(Config(dict(CONFIG, auto_scale_lr=dict(scaled, enable=True)))))
    assert read_run(tmp_path, 'model', config).altered == ()


def test_a_training_that_was_stopped_has_diverged(tmp_path):
    write_run(tmp_path, epochs=2, bbox=40)
    reason = 'the loss is not finite at iteration 50'
    change(tmp_path, state=run_file.State.STOPPED, reason=reason)
    run = read_run(tmp_path, 'model', CONFIG)
    assert (run.state, run.reason) == (State.DIVERGED, reason)
    change(tmp_path, state=run_file.State.FAILED, reason='the disk is full')
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


# ---- means, differences and verdicts


def test_mean_and_spread():
    assert Summary.of([40.0, 42.0, 44.0]) == Summary(42.0, 2.0, 3)
    assert Summary.of([40.0, None, math.nan]) == Summary(40.0, None, 1)
    assert Summary.of([]).count == 0


def test_a_pooled_spread_weighs_by_the_runs_beyond_the_first():
    single = Summary(10.0, None, 1)
    pooled = pooled_spread([Summary(40.0, 2.0, 3), single, Summary(20.0, 1.0, 2)])
    assert pooled == pytest.approx(3**0.5)  # (2 x 4 + 1 x 1) / 3
    assert pooled_spread([single, Summary.of([])]) is None


def ask(claimed, model, baseline, figure='box'):
    results = {result.entry.label: result for result in (model, baseline)}
    question = Question('?', model.entry.label, baseline.entry.label, figure, claimed)
    return answer(question, results)


def test_difference_and_its_standard_error():
    found = ask(None, finished('a', 40.0, 42.0, 44.0), finished('b', 30.0, 31.0))
    assert found.difference == pytest.approx(11.5)
    assert found.error == pytest.approx(math.sqrt(4 / 3 + 0.5 / 2))
    assert found.verdict == ''
    assert ask(None, finished('a', 40.0, 42.0), finished('b', 30.0)).error is None


@pytest.mark.parametrize(
    ('spread', 'count', 'tolerance'),
    [
        (None, 1, 0.6),  # 2 * sqrt(4 * 0.15^2)
        (0.3, 4, 0.6),  # 2 * sqrt(2 * 0.15^2 + 2 * 0.3^2 / 4)
        (0.01, 4, 2 * math.sqrt(0.05625)),  # the small spread is not believed
    ],
)
def test_tolerance(spread, count, tolerance):
    side = Summary(40.0, spread, count)
    found = Answer(Question('?', 'a', 'b', 'box', 6.4), side, side)
    assert found.tolerance == pytest.approx(tolerance)


@pytest.mark.parametrize(
    ('ap', 'claimed', 'verdict'),
    [
        (42.9, 6.4, 'reproduced'),
        (42.3, 6.4, 'reproduced'),
        (42.2, 6.4, 'not reproduced'),
        (43.5, 6.4, 'reproduced'),
        (43.6, 6.4, 'not reproduced'),
        (36.6, 0.4, 'reproduced'),
        (36.4, 0.4, 'not reproduced'),  # within the tolerance, but not better
    ],
)
def test_verdict(ap, claimed, verdict):
    found = ask(claimed, finished('a', ap), finished('b', 36.5))
    assert found.verdict == verdict
    assert bool(found.caveat) == (claimed == 0.4)
    assert not ask(0.4, finished('a', 39.0), finished('b', 36.5)).caveat


def test_a_verdict_on_an_altered_run_says_so():
    altered = finished('a', 42.9)
    altered.runs[0] = replace(altered.runs[0], altered=('train_cfg.max_epochs = 24',))
    other = finished('b', 36.5)
    found = ask(6.4, altered, other)
    assert (found.verdict, found.caveat) == (
        'reproduced',
        'runs of a had other settings than their configs',
    )
    assert ask(6.4, other, altered).caveat == found.caveat
    assert ask(6.4, other, other).caveat == ''
    assert not ask(6.4, altered, Result(entry('b'), [])).caveat
    both = ask(0.4, altered, finished('b', 42.5)).caveat
    assert both.endswith(f'could decide it; {found.caveat}')


def test_a_claim_about_masks_is_judged_by_masks():
    better, worse = finished('a', mask=[40.2]), finished('b', mask=[34.7])
    assert ask(5.5, better, worse, 'mask').verdict == 'reproduced'
    assert ask(5.5, better, worse, 'box').verdict == 'not reproduced'


def test_what_keeps_a_claim_from_being_judged_is_named(tmp_path):
    run = read_run(write_run(tmp_path, epochs=2, bbox=40), 'a', CONFIG)
    first = ask(6.4, Result(entry('a'), [run]), finished('b', 36.5))
    assert first.verdict == 'cannot be judged: a is unfinished'
    second = ask(6.4, finished('a', 42.9), Result(entry('b'), []))
    assert second.verdict == 'cannot be judged: b is missing'


# ---- suites


def test_every_config_of_every_suite_exists_once():
    for name in SUITES:
        entries = get_suite(name).entries
        assert [entry.label for entry in entries if not entry.config.is_file()] == []
        assert len({entry.label for entry in entries}) == len(entries)
    compared = {entry.config for entry in get_suite('shapes').entries}
    assert compared == set((ROOT / 'configs' / 'compare').glob('*.py'))
    assert {entry.config for entry in get_suite('coco').entries} == set(
        (ROOT / 'configs').glob('*_coco.py')
    )


def test_the_four_claims_are_those_of_the_published_figures():
    suite = get_suite('coco')
    claims = [question for question in suite.questions if question.claimed is not None]
    assert [question.claimed for question in claims] == [6.4, 6.1, 5.5, 0.4]
    entries = {entry.label: entry for entry in suite.entries}
    for question in claims[:3]:
        better, worse = (entries[label] for label in (question.model, question.baseline))
        assert (better.schedule, worse.schedule) == ('1x', '1x')
        published = [getattr(side.published, question.figure) for side in (better, worse)]
        assert published[0] - published[1] == pytest.approx(question.claimed)
    used = [entry.published for entry in suite.entries if entry.published]
    assert len(used) == len(PUBLISHED)
    small = get_suite('shapes')
    assert not any(question.claimed for question in small.questions)
    assert not any(entry.published for entry in small.entries)


def test_the_small_edition_gives_every_model_the_same_budget():
    suite = get_suite('shapes')
    configs = [Config.fromfile(entry.config) for entry in suite.entries]
    for config in configs:
        for part in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler',
                     'train_cfg', 'randomness'):  # fmt: skip
            assert config[part] == configs[0][part]
        assert config.model.bbox_head == configs[0].model.bbox_head
        assert config.model.backbone.get('init_cfg') is None
        assert config.train_dataloader.dataset.data_root == f'{suite.data_root}/'
        size = suite.shapes.size, suite.shapes.size
        assert suite.size == size
        assert config.train_dataloader.dataset.pipeline[2].scale == size


# ---- the outcome


@pytest.fixture
def small_suite():
    """A suite of made-up detectors, and what became of them."""
    rows = [
        finished('r50_fpn', 36.0, 37.0, model='ResNet-50'),
        finished('swin_fpn', 41.5, model='Swin-T'),
        finished('s_fpn', 42.0, 44.0),
        finished('s_dsfpn', 45.0, neck='DS-FPN'),
    ]
    late = Result(
        entry('late'), [Run('late', Path('late'), 0, State.UNFINISHED, '1 of 3 epochs are trained')]
    )
    results = {result.entry.label: result for result in [*rows, late]}
    part = Part('All', tuple(result.entry for result in results.values()))
    questions = (
        Question('S against R50', 's_fpn', 'r50_fpn', 'box', 6.4),
        Question('late against R50', 'late', 'r50_fpn', 'box', 6.1),
        Question('S: DS-FPN against FPN', 's_dsfpn', 's_fpn'),
    )
    suite = Suite('made up', (part,), questions, (800, 1280), 'nowhere')
    return suite, results


def table_rows(text, heading):
    """The rows of the first table behind a heading, as dicts."""
    lines = text.split(f'## {heading}\n\n')[1].splitlines()
    table = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in lines[: lines.index('')]
    ]
    return [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]


def test_table(small_suite):
    suite, results = small_suite
    text = to_markdown(suite, results, [answer(q, results) for q in suite.questions])
    rows = table_rows(text, 'All')
    assert [row['Model'] for row in rows] == ['ResNet-50', 'Swin-T', 'DS-Net-S*', 'DS-Net-S*']
    last, other = rows[2], rows[3]
    assert (last['runs'], last['box AP']) == ('2', '43.0 ± 1.4')
    assert (last['box AP against ResNet-50'], last['box AP against Swin-T']) == ('+6.5', '+1.5')
    assert (last['published box AP'], last['M parameters'], last['G MACs']) == (
        '42.9', '32.74', '281.50')  # fmt: skip
    assert last['training in h'] == '1.00 ± 0.00'
    # no baseline has this neck, and the published figures belong to another
    assert (other['box AP against ResNet-50'], other['published box AP']) == ('-', '-')
    assert not any('mask' in name or 'latency' in name for name in rows[0])
    assert 'Not measured: latency in ms, GPU memory in MB.' in text

    claim, unjudged, free = table_rows(text, 'Differences')
    assert (claim['difference in AP'], claim['claimed'], claim['verdict']) == (
        '+6.5', '+6.4', 'reproduced')  # fmt: skip
    assert unjudged['verdict'] == 'cannot be judged: late is unfinished'
    assert (free['difference in AP'], free['verdict']) == ('+2.0', 'no claim of the paper')
    assert '- late, seed 0: unfinished, 1 of 3 epochs are trained' in text


def test_csv(small_suite):
    suite, results = small_suite
    lines = list(csv.DictReader(to_csv(suite, results).splitlines()))
    assert [line['config'] for line in lines] == ['r50_fpn', 'swin_fpn', 's_fpn', 's_dsfpn']
    line = lines[2]
    assert (line['runs'], line['seeds'], float(line['box_mAP'])) == ('2', '0 1', 43.0)
    assert float(line['box_mAP_spread']) == pytest.approx(math.sqrt(2), abs=1e-5)
    assert float(line['box_mAP_against_ResNet-50']) == 6.5
    assert (line['mask_mAP'], line['latency_s'], line['parameters']) == ('', '', '32740000')


def test_plot(small_suite, tmp_path):
    suite, results = small_suite
    plot(suite, results, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 10_000


# ---- the tool


@pytest.fixture
def compare(monkeypatch, capsys):
    """Run `dsnet-mm compare` in this process; return what it printed, or its last sentence."""

    def run(*args: object) -> str:
        code = dsnet_mm_ends('compare', *args)
        printed, errors = capsys.readouterr()
        if code == 2:  # of argparse, behind the usage
            return errors.splitlines()[-1]
        if code:
            assert '\n' not in str(code)
            return str(code)
        return printed

    return run


def test_tool_compares_recorded_runs_of_the_paper(compare, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, 'count_costs', lambda *args: {})
    ap = {
        'retinanet_r50_fpn': dict(bbox=36.5),
        'retinanet_dsnet_s_fpn': dict(bbox=42.7),
        'mask_rcnn_r50_fpn': dict(bbox=38.2, segm=34.7),
        'mask_rcnn_dsnet_s_fpn': dict(bbox=41.0, segm=40.0),
    }
    for name, figures in ap.items():
        folder = tmp_path / f'{name}_1x_coco'
        write_run(folder, seed=None, max_epochs=12, epochs=12, **figures)
    write_run(tmp_path / 'mask_rcnn_swin_t_fpn_1x_coco', epochs=5, bbox=30, segm=30)
    printed = compare('--suite', 'coco', '--work-dirs', tmp_path, '--only', '*_fpn_1x_coco')
    written = (tmp_path / 'compare_coco' / 'table.md').read_text()
    assert written.strip() in printed
    verdicts = [row['verdict'] for row in table_rows(written, 'Differences')]
    short = [
        f'; runs of {detector}_dsnet_s_fpn_1x_coco and {detector}_r50_fpn_1x_coco'
        ' had other settings than their configs'
        for detector in ('retinanet', 'mask_rcnn', 'mask_rcnn')
    ]  # the recorded configs lack most settings
    assert verdicts[:4] == [
        'reproduced' + short[0],
        'not reproduced' + short[1],
        'reproduced' + short[2],
        'cannot be judged: mask_rcnn_swin_t_fpn_1x_coco is unfinished',
    ]
    assert '- mask_rcnn_swin_t_fpn_1x_coco, seed 0: unfinished, 5 of 12 epochs' in written
    assert '- retinanet_swin_t_fpn_1x_coco, seed 0: missing, ' in written


def test_options_given_twice_are_those_of_trainings_table_and_costs(compare, tmp_path, monkeypatch):
    trained, built = [], []

    def train_all(tasks, launch, console):
        trained.extend(launch.options)
        write_run(tasks[0].run.folder, bbox=40)
        return {}

    def count_costs(entries, size, latency, report):
        built.extend(Config.fromfile(entry.config).model.neck for entry in entries)
        return {entry.label: Cost(1_000_000, 1) for entry in entries}

    monkeypatch.setattr(scheduler, 'train_all', train_all)
    monkeypatch.setattr(cost, 'count_costs', count_costs)
    options = ('model.neck.mlp_ratio=0', f'train_cfg.max_epochs={EPOCHS}')
    printed = compare('--work-dirs', tmp_path, '--run', '--data-root', tmp_path,
                      '--only', 'retinanet_dsnet_t_dsfpn_shapes',
                      '--cfg-options', options[0], '--cfg-options', options[1])  # fmt: skip
    assert trained == list(options)
    assert [neck.mlp_ratio for neck in built] == [0]
    assert [row['M parameters'] for row in table_rows(printed, 'RetinaNet on shapes, from scratch')
            ] == ['1.00']  # fmt: skip


def test_tool_makes_the_table_and_ends_with_an_error_if_a_training_failed(
    compare, tmp_path, monkeypatch
):
    def train_all(tasks, launch, console):
        write_run(tasks[0].run.folder, bbox=40)
        return {'two, seed 0': 'two, seed 0 ended with status 1, see its log'}

    monkeypatch.setattr(scheduler, 'train_all', train_all)
    monkeypatch.setattr(cost, 'count_costs', lambda *args: {})
    error = compare('--work-dirs', tmp_path, '--run', '--data-root', tmp_path,
                    '--only', 'retinanet_dsnet_t_*fpn_shapes',
                    '--cfg-options', f'train_cfg.max_epochs={EPOCHS}')  # fmt: skip
    assert error == ('error: 1 run failed: two, seed 0 ended with status 1, see its log')
    assert '40.0' in (tmp_path / 'compare_shapes' / 'table.md').read_text()


def test_tool_names_what_failed_where_no_training_came_to_its_end(compare, tmp_path, monkeypatch):
    failures = {'one, seed 0': 'one, seed 0 ended with status 1, see its log'}
    monkeypatch.setattr(scheduler, 'train_all', lambda *args: failures)
    error = compare('--work-dirs', tmp_path, '--run', '--data-root', tmp_path,
                    '--only', 'retinanet_dsnet_t_fpn_shapes')  # fmt: skip
    assert error.endswith('failed: one, seed 0 ended with status 1, see its log')


@pytest.mark.slow
def test_tool_counts_the_costs_of_the_small_edition(compare, tmp_path):
    config = load_config(str(ROOT / 'configs/compare/retinanet_dsnet_t_fpn_shapes.py'))
    for name, ap in {'dsnet_t_fpn': 60, 'dsnet_t_noalign_fpn': 50}.items():
        for seed in (0, 1):
            folder = tmp_path / f'retinanet_{name}_shapes' / f'seed_{seed}'
            write_run(folder, epochs=config.train_cfg.max_epochs, seed=seed, bbox=ap + seed)
    out = tmp_path / 'out'
    compare('--work-dirs', tmp_path, '--only', '*_dsnet_t*', '--out', out)
    text = (out / 'table.md').read_text()
    aligned, plain = table_rows(text, 'DS-Net-T* (α = 1/2, aligned) and what its parts do')
    assert (aligned['box AP'], plain['box AP against DS-Net-T*']) == ('60.5 ± 0.7', '-10.0')
    assert 9 < float(plain['M parameters']) < float(aligned['M parameters']) < 11
    assert float(plain['G MACs']) < float(aligned['G MACs'])
    assert 'Counted, but with other settings than the config' in text
    assert 'pooled over all models, is 0.7.' in text
    assert 'retinanet_dsnet_t_alpha025_fpn_shapes, seed 0: missing' in text
    assert (out / 'plot.png').exists()
    assert len((out / 'table.csv').read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--only', '*x101*'], 'no config of the suite shapes matches'),
        (['--seeds', '0'], '--seeds: 0 must be at least 1'),
        (['--gpus', '0'], '--gpus: 0 must be at least 1'),
        (['--jobs', '0'], '--jobs: 0 must be at least 1'),
        (['--jobs', '2', '--gpus', '2'], '--jobs 2 needs trainings on one device'),
        (['--only', '*_r50_fpn*'], 'contains no finished run of the suite'),
        (['--run', '--only', '*_r50_fpn*', '--data-root', 'nowhere'], 'nowhere'),
    ],
)
def test_tool_says_what_is_wrong(compare, tmp_path, args, words):
    assert words in compare('--work-dirs', tmp_path, *args)


# ---- docs/compare.md

DOCS = (ROOT / 'docs' / 'compare.md').read_text(encoding='utf-8')


def test_what_the_docs_tell_to_type(compare, tmp_path, monkeypatch):
    """The trainings and measurements behind the commands are tested elsewhere."""
    trained, measured = [], []

    def train_all(tasks, launch, console):
        for task in tasks:
            write_run(task.run.folder, seed=task.run.seed, bbox=40 + task.run.seed, segm=35)
        trained.append((len(tasks), launch.gpus))
        return {}

    def count_costs(entries, size, latency, report):
        measured.append((len(entries), latency))
        return {}

    monkeypatch.setattr(scheduler, 'train_all', train_all)
    monkeypatch.setattr(cost, 'count_costs', count_costs)
    monkeypatch.setattr(config_reader, 'load_config', lambda *args, **options: CONFIG)
    monkeypatch.setattr(ShapesDetection, 'write', lambda *args, **options: True)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r'^```bash\n(.*?)^```', DOCS, re.M | re.S)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert commands.pop(0) == ['make', 'compare']
    for program, name, *args in commands:
        assert (program, name) == ('dsnet-mm', 'compare')
        assert 'work_dirs/compare_' in compare(*args)
    shapes, retinanets = len(get_suite('shapes').entries), 8
    assert trained == [(3 * shapes, None), (retinanets, 8)]
    assert measured == [(shapes, False), (retinanets, False), (retinanets, True)]


def test_the_docs_state_the_tolerance():
    single = Answer(Question('?', 'a', 'b'), *[Summary(40.0, None, 1)] * 2).tolerance
    many = Answer(Question('?', 'a', 'b'), *[Summary(40.0, 0.1, 10**6)] * 2).tolerance
    assert f'A standard deviation of {verdict.SPREAD} lies between' in DOCS
    assert f'{single:.1f} AP, is the tolerance' in DOCS
    assert f'It never falls below {many:.2f}' in DOCS


# ---- training what is missing


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


MICRO = f"""
_base_ = {str(ROOT / 'configs/compare/retinanet_dsnet_t_fpn_shapes.py')!r}
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1),
            num_heads=(1, 2, 3, 4), mlp_ratio=1)),
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0))
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.mark.slow
def test_run_trains_the_missing_and_resumes_the_interrupted(
    compare, shapes_root, tmp_path, monkeypatch
):
    entries = []
    for name in ('one', 'two'):
        path = tmp_path / f'{name}.py'
        path.write_text(MICRO)
        entries.append(Entry(path, 'RetinaNet', name))
    part = Part('Micro', tuple(entries), ('one',))
    suite = Suite('shapes', (part,), (Question('?', 'two', 'one'),), (96, 96), str(shapes_root))
    monkeypatch.setitem(suites.SUITES, 'shapes', lambda: suite)
    work_dirs = tmp_path / 'work_dirs'
    interrupted = work_dirs / 'one' / 'seed_0'
    config = load_config(str(entries[0].config), str(interrupted), {'train_cfg.max_epochs': 1},
                         str(shapes_root))  # fmt: skip
    train(config)
    assert read_run(interrupted, 'one', load_config(str(entries[0].config))).epochs == 1

    printed = compare('--work-dirs', work_dirs, '--data-root', shapes_root, '--run')
    assert '2 runs to be trained' in printed
    assert 'resumed epoch: 1, iter: 2' in (interrupted / 'train.log').read_text()
    rows = table_rows((work_dirs / 'compare_shapes' / 'table.md').read_text(), 'Micro')
    assert [(row['Model'], row['runs']) for row in rows] == [('one', '1'), ('two', '1')]
    for result in (read_run(work_dirs / name / 'seed_0', name, load_config(str(e.config)))
                   for name, e in zip(('one', 'two'), entries, strict=True)):  # fmt: skip
        assert (result.state, result.epochs, result.seed) == (State.FINISHED, 2, 0)
        assert result.altered == ()
    assert '0 runs to be trained' in compare(
        '--work-dirs', work_dirs, '--data-root', shapes_root, '--run'
    )
