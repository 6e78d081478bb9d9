"""Configs after ``--cfg-options``, in mmengine's new style, and without a test part."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from dsnet_mm.engine.config import inference_pipeline, load_config, scope_of
from dsnet_mm.engine.evaluate import set_test_part
from dsnet_mm.errors import UserError
from helpers.paths import ROOT

FINETUNE = ROOT / 'configs/finetune/retinanet_dsnet_mini_finetune.py'


def load(**options):
    return load_config(str(FINETUNE), cfg_options=options)


def test_schedules_follow_the_number_of_epochs(tmp_path, capsys):
    cfg = load(**{'train_cfg.max_epochs': 4})
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.end) == (50, 4)
    coco = load_config(
        str(ROOT / 'configs/retinanet_dsnet_t_fpn_1x_coco.py'),
        cfg_options={'train_cfg.max_epochs': 24},
    )
    steps = coco.param_scheduler[1]
    assert (steps.end, steps.milestones) == (24, [16, 22])


def test_epochs_after_a_warmup_are_cut_at_the_end(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("""
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
param_scheduler = [
    dict(type='LinearLR', by_epoch=True, begin=0, end=20),
    dict(type='CosineAnnealingLR', T_max=80, by_epoch=True, begin=20, end=100),
]
""")
    cfg = load_config(str(config), cfg_options={'train_cfg.max_epochs': 50})
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 20)
    assert (cosine.begin, cosine.end, cosine.T_max) == (20, 50, 30)


def test_a_schedule_that_is_set_too_stays_as_it_is_set():
    cfg = load(**{'train_cfg.max_epochs': 4, 'param_scheduler.1.end': 9})
    assert cfg.param_scheduler[1].end == 9


def test_no_worker_process_needs_no_other_setting():
    loader = load(**{'train_dataloader.num_workers': 0, 'train_dataloader.prefetch_factor': 2})
    assert loader.train_dataloader.persistent_workers is False
    assert 'prefetch_factor' not in loader.train_dataloader
    assert loader.val_dataloader.persistent_workers is True


@pytest.mark.parametrize(
    ('text', 'scope'),
    [
        ('default_scope = "mmpretrain"\nmodel = dict(type="ImageClassifier")', 'mmpretrain'),
        ('model = dict(type="mmdet.RetinaNet")', 'mmdet'),
        ('model = dict(type="RetinaNet")', 'mmdet'),
        ('from mmdet.models import RetinaNet\nmodel = dict(type=RetinaNet)', 'mmdet'),
        (
            'from mmpretrain.models import ImageClassifier\nmodel = dict(type=ImageClassifier)',
            'mmpretrain',
        ),
    ],
)
def test_scope_of_configs_in_both_styles(text, scope, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(text)
    assert scope_of(Config.fromfile(config)) == scope


def test_images_are_resized_as_in_the_nearest_part():
    cfg = load()
    cfg.test_dataloader = None
    assert inference_pipeline(cfg) == cfg.val_dataloader.dataset.pipeline
    cfg.val_dataloader = None
    resize = inference_pipeline(cfg)[1]
    assert (resize.scale, resize.keep_ratio) == ((256, 256), True)
    cfg.train_dataloader = None
    with pytest.raises(UserError, match='does not say how to resize images; set test_dataloader'):
        inference_pipeline(cfg)


def test_evaluation_of_another_file_and_without_a_test_part():
    cfg = load()
    set_test_part(cfg, 'other/test.json', 'other/images')
    dataset = cfg.test_dataloader.dataset
    assert (dataset.data_root, dataset.ann_file) == ('', 'other/test.json')
    assert dataset.data_prefix.img == 'other/images'
    assert cfg.test_evaluator.ann_file == 'other/test.json'
    assert cfg.val_evaluator.ann_file == 'data/own/annotations/val.json'

    cfg = load()
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    set_test_part(cfg, 'data/own/annotations/test.json')
    assert cfg.test_dataloader.dataset.data_prefix.img == 'data/own/'
    assert cfg.test_cfg.type == 'TestLoop'
    cfg.test_evaluator = cfg.val_evaluator = None
    with pytest.raises(UserError, match='has neither test_evaluator nor val_evaluator; set'):
        set_test_part(cfg)
