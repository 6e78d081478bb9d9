"""The config that lets a detector learn a few images by heart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.hooks import EarlyStoppingHook
from torch import nn

from dsnet_mm.engine.hooks import SteadyNormsHook
from dsnet_mm.engine.run_file import RunFile, State
from helpers.commands import run_command
from helpers.configs import check_safety
from helpers.paths import ROOT, SHARED

CONFIG = ROOT / 'configs' / 'memorize' / 'retinanet_dsnet_t_coco_mini.py'


def test_it_evaluates_on_the_images_that_it_trains_on():
    cfg = Config.fromfile(CONFIG)
    check_safety(cfg)
    trained = cfg.train_dataloader.dataset.dataset
    assert len(trained.indices) == 8
    for name in ('ann_file', 'data_root', 'data_prefix', 'indices'):
        assert trained[name] == cfg.val_dataloader.dataset[name]
    assert cfg.model.backbone.init_cfg is None
    assert 'ann_file' not in cfg.val_evaluator


def test_it_stops_when_the_detector_knows_the_images():
    (settings,) = (h for h in Config.fromfile(CONFIG).custom_hooks if h.type == 'EarlyStoppingHook')
    settings.pop('type')
    hook, loop = EarlyStoppingHook(**settings), SimpleNamespace(stop_training=False)
    runner = SimpleNamespace(train_loop=loop, logger=SimpleNamespace(info=print))
    for ap, stops in ((0.5, False), (0.5, False), (0.89, False), (0.91, True)):
        hook.after_val_epoch(runner, {'coco/bbox_mAP': ap})
        assert loop.stop_training is stops


def test_norms_are_steady_from_the_given_epoch():
    norms = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.BatchNorm1d(3))
    for epoch, trained in ((5, True), (6, False), (7, False)):
        norms.train()  # as the loop does before an epoch
        SteadyNormsHook(begin=6).before_train_iter(SimpleNamespace(model=norms, epoch=epoch), 0)
        assert [module.training for module in norms] == [trained, True, trained]


@pytest.mark.slow
@pytest.mark.shared
def test_train(tmp_path):
    done = run_command('train', CONFIG, '--data-root', SHARED / 'coco_mini', '--work-dir', tmp_path,
                '--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.dataset.times=1',
                'train_dataloader.dataset.dataset.pipeline.2.scale=(224,128)',
                'val_dataloader.dataset.pipeline.1.scale=(224,128)',
                'model.test_cfg.score_thr=0.0')  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = RunFile.read(tmp_path)
    assert (facts.state, facts.evaluations[-1]['iteration']) == (State.FINISHED, 2)
    assert 0 <= facts.metrics['coco/bbox_mAP'] < 0.9
