"""Test the configs and questions of the suites."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from dsnet_mm.comparison.paper_claims import PUBLISHED
from dsnet_mm.comparison.suites import SUITES
from helpers.paths import ROOT


def test_every_config_of_every_suite_exists_once():
    for name in SUITES:
        entries = SUITES[name]().entries
        assert [entry.label for entry in entries if not entry.config.is_file()] == []
        assert len({entry.label for entry in entries}) == len(entries)
    compared = {entry.config for entry in SUITES['shapes']().entries}
    assert compared == set((ROOT / 'configs' / 'compare').glob('*.py'))
    alone = {'faster_rcnn', 'atss', 'dino-4scale', 'mask2former'}  # detectors without a baseline
    assert {entry.config for entry in SUITES['coco']().entries} == {
        path
        for path in (ROOT / 'configs').glob('*_coco.py')
        if path.stem.split('_dsnet')[0] not in alone
    }


def test_the_four_claims_are_those_of_the_published_figures():
    suite = SUITES['coco']()
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
    small = SUITES['shapes']()
    assert not any(question.claimed for question in small.questions)
    assert not any(entry.published for entry in small.entries)


def test_the_small_edition_gives_every_model_the_same_budget():
    suite = SUITES['shapes']()
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
