"""Test `dsnet-mm compare` on recorded runs and small trainings, and docs/compare.md."""

from __future__ import annotations

import shlex

import pytest
from mmengine.config import Config

from dsnet_mm.comparison import cost, scheduler, suites, verdict
from dsnet_mm.comparison.suites import SUITES, Entry, Part, Question, Suite
from dsnet_mm.comparison.summary import Cost, Summary
from dsnet_mm.comparison.verdict import Answer
from dsnet_mm.comparison.work_dir_reader import State, read_run
from dsnet_mm.data.shapes import ShapesDetection
from dsnet_mm.engine import config as config_reader
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.run_file import RunFile
from dsnet_mm.engine.train import train
from helpers.commands import dsnet_mm_ends
from helpers.documents import command_lines, read
from helpers.paths import ROOT
from helpers.recorded_runs import CONFIG, EPOCHS, table_rows, write_run


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

DOCS = read('docs/compare.md')


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
    commands = [shlex.split(line) for line in command_lines(DOCS)]
    assert commands.pop(0) == ['make', 'compare']
    for program, name, *args in commands:
        assert (program, name) == ('dsnet-mm', 'compare')
        assert 'work_dirs/compare_' in compare(*args)
    shapes, retinanets = len(SUITES['shapes']().entries), 10
    assert trained == [(3 * shapes, None), (retinanets, 8)]
    assert measured == [(shapes, False), (retinanets, False), (retinanets, True)]


def test_the_docs_state_the_tolerance():
    single = Answer(Question('?', 'a', 'b'), *[Summary(40.0, None, 1)] * 2).tolerance
    many = Answer(Question('?', 'a', 'b'), *[Summary(40.0, 0.1, 10**6)] * 2).tolerance
    assert f'A standard deviation of {verdict.SPREAD} lies between' in DOCS
    assert f'{single:.1f} AP, is the tolerance' in DOCS
    assert f'It never falls below {many:.2f}' in DOCS


# ---- trainings

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
    assert RunFile.read(interrupted).epoch == 1

    printed = compare('--work-dirs', work_dirs, '--data-root', shapes_root, '--run')
    assert '2 runs to be trained' in printed
    assert 'resumed epoch: 1, iter: 2' in (interrupted / 'train.log').read_text()
    rows = table_rows((work_dirs / 'compare_shapes' / 'table.md').read_text(), 'Micro')
    assert [(row['Model'], row['runs']) for row in rows] == [('one', '1'), ('two', '1')]
    for result in (read_run(work_dirs / name / 'seed_0', name, load_config(str(e.config)))
                   for name, e in zip(('one', 'two'), entries, strict=True)):  # fmt: skip
        assert (result.state, result.seed) == (State.FINISHED, 0)
        assert result.altered == ()
    assert '0 runs to be trained' in compare(
        '--work-dirs', work_dirs, '--data-root', shapes_root, '--run'
    )
