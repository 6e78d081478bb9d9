"""Curves of trainings: what is drawn, from which logs, and what is said where nothing can be."""

from __future__ import annotations

import cv2
import pytest
from conftest import ROOT, documented
from matplotlib.axes import Axes
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization import Visualizer
from test_compare import (
    EPOCHS,
    INTERVAL,
    ITERATIONS,
    evaluation,
    train_record,
    write_log,
    write_run,
)
from test_own_data import type_in

from dsnet_mm.comparison.curves import plot_curves, read_curves
from dsnet_mm.errors import UserError


@pytest.fixture
def drawn(monkeypatch):
    """The lines that are drawn, as (name of the axes, label, abscissas, values)."""
    lines, plot = [], Axes.plot

    def note(axes, steps, values, **more):
        lines.append((axes, more['label'], steps, values))
        return plot(axes, steps, values, **more)

    monkeypatch.setattr(Axes, 'plot', note)
    return lines


def test_loss_by_iteration_and_ap_by_epoch(tmp_path, drawn):
    folders = [write_run(tmp_path / name, bbox=ap) for name, ap in (('a', 30), ('b', 40))]
    plot_curves(folders, tmp_path / 'curves.png')
    assert cv2.imread(str(tmp_path / 'curves.png')).shape[1] > 1000
    steps = list(range(INTERVAL, EPOCHS * ITERATIONS + 1, INTERVAL))
    found = [(axes.get_ylabel(), axes.get_xlabel(), *line) for axes, *line in drawn]
    assert found == [
        ('loss', 'iteration', str(folders[0]), steps, [1.5] * len(steps)),
        ('loss', 'iteration', str(folders[1]), steps, [1.5] * len(steps)),
        ('coco/bbox_mAP', 'epoch', str(folders[0]), [1, 2, 3], [0.3] * 3),
        ('coco/bbox_mAP', 'epoch', str(folders[1]), [1, 2, 3], [0.4] * 3),
    ]


def test_chosen_figures(tmp_path, drawn):
    folder = write_run(tmp_path / 'a', bbox=30)
    plot_curves([folder], tmp_path / 'curves.svg', ['lr', 'coco/bbox_mAP_s'])
    assert [axes.get_ylabel() for axes, *_ in drawn] == ['lr', 'coco/bbox_mAP_s']


def test_a_resumed_training_is_one_curve_and_a_loss_that_is_no_number_none(tmp_path):
    write_log(tmp_path, [train_record(10), train_record(20), train_record(30)], '20261121_100000')
    resumed = [train_record(30, loss=0.5), train_record(40, loss=float('nan'))]
    write_log(tmp_path, [*resumed, evaluation(1, bbox=30)], '20261121_110000')
    assert len(read_curves(tmp_path)['time'].steps) == 4  # those of training
    curve = read_curves(tmp_path)['loss']
    assert (curve.steps, curve.values) == ([10, 20, 30], [1.5, 1.5, 0.5])


def test_bad_input_gets_a_sentence(tmp_path):
    folder = write_run(tmp_path / 'a', bbox=30)
    (tmp_path / 'empty').mkdir()
    write_log(tmp_path / 'young', [])
    for folders, out, keys, words in (
        ([tmp_path / 'no'], 'x.png', [], 'no holds no log of a training; give the work dir'),
        ([tmp_path / 'empty'], 'x.png', [], 'empty holds no log of a training'),
        ([folder], 'x.png', ['mAP'], 'no log holds mAP; choose from .*coco/bbox_mAP'),
        ([tmp_path / 'young'], 'x.png', [], 'no figures to draw yet'),
        ([folder], 'x.docx', [], 'x.docx cannot be written; choose another place or type'),
        ([folder], 'no/x.png', [], 'x.png cannot be written; choose another place or type'),
    ):
        with pytest.raises(UserError, match=words) as error:
            plot_curves(folders, tmp_path / out, keys)
        assert '\n' not in str(error.value)
    assert not list(tmp_path.glob('**/x.*'))


def test_the_documented_command(tmp_path, monkeypatch, capsys):
    command = documented('docs/own_data.md', 'plot_log.py')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    write_run(tmp_path / command[-1], bbox=30)
    assert type_in(' '.join(command), monkeypatch) == 0
    assert (tmp_path / command[-1] / 'curves.png').exists()
    assert 'the curves are in' in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / 'tools')
    assert 'holds no log' in type_in('python plot_log.py elsewhere', monkeypatch)


def test_documented_settings_of_tensorboard(tmp_path):
    text = (ROOT / 'docs' / 'own_data.md').read_text(encoding='utf-8')
    (block,) = (part for part in text.split('```python\n') if 'Tensorboard' in part)
    path = tmp_path / 'config.py'
    coco = ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py'
    path.write_text(f'_base_ = {str(coco)!r}\n{block.split("```")[0]}')
    backends = Config.fromfile(path).visualizer.vis_backends
    assert [backend.type for backend in backends] == ['LocalVisBackend', 'TensorboardVisBackend']
    assert all(VISBACKENDS.get(backend.type) for backend in backends)
    Visualizer(vis_backends=backends, save_dir=str(tmp_path)).add_scalar('loss', 1.0, 1)
    assert list(tmp_path.rglob('events.out.tfevents*'))
