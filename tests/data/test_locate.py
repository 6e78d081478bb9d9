"""Test finding and moving the data paths of a config."""

import pytest
from mmengine.config import Config, ConfigDict

from dsnet_mm.data.locate import check_data, find_datasets, find_paths, set_data_root
from dsnet_mm.errors import UserError
from helpers.paths import ROOT

CONFIG = ROOT / 'configs' / 'mask_rcnn_dsnet_s_fpn_1x_coco.py'


def test_data_root_is_set_everywhere():
    cfg = Config.fromfile(CONFIG)
    assert len([path for path in find_paths(cfg) if path.startswith('data/coco/')]) == 8
    set_data_root(cfg, 'elsewhere')
    assert 'data/coco' not in str({k: v for k, v in cfg.items() if k != 'data_root'})
    assert set(find_paths(cfg)) == {
        'elsewhere/annotations/instances_train2017.json',
        'elsewhere/annotations/instances_val2017.json',
        'elsewhere/train2017/',
        'elsewhere/val2017/',
    }


def test_wrapped_datasets_are_found():
    cfg = Config.fromfile(CONFIG)
    leaf = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = ConfigDict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='ConcatDataset', datasets=[leaf, {**leaf, 'data_root': 'more/'}]),
    )
    assert len(list(find_datasets(cfg, ['train']))) == 2
    set_data_root(cfg, '/new')
    assert {dataset.data_root for dataset in find_datasets(cfg)} == {'/new/'}


def test_roots_with_a_common_prefix():
    cfg = Config.fromfile(CONFIG)
    cfg.train_dataloader.dataset.data_root = 'data/'
    set_data_root(cfg, 'data/x')
    assert cfg.val_evaluator.ann_file == 'data/x/annotations/instances_val2017.json'
    cfg.val_evaluator.ann_file = None
    set_data_root(cfg, 'data/y')
    assert cfg.val_evaluator.ann_file is None


def test_missing_data_are_reported(tmp_path, shapes_root):
    cfg = Config.fromfile(CONFIG)
    set_data_root(cfg, str(shapes_root))
    check_data(cfg)
    set_data_root(cfg, str(tmp_path))
    missing = f'{tmp_path}/annotations/instances_train2017.json is missing.*--data-root'
    with pytest.raises(UserError, match=missing):
        check_data(cfg)
    with pytest.raises(UserError, match='instances_val2017.json'):
        check_data(cfg, ['test'])


def test_remote_data_are_not_checked():
    cfg = Config.fromfile(CONFIG)
    set_data_root(cfg, 's3://bucket/coco')
    check_data(cfg)
