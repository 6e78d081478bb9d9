"""Test that runs refuse annotation files which stop mmdet, and read good files once."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from dsnet_mm.engine.annotation_files import check_annotations, handed_over
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.evaluate import evaluate
from dsnet_mm.engine.preflight import preflight
from dsnet_mm.errors import UserError
from helpers.annotation_faults import double, drop, set_box, set_entry, set_mask
from helpers.datasets import CLASSES, dataset_config
from helpers.paths import ROOT

DEMO = ROOT / 'configs/demo/retinanet_dsnet_mini_shapes.py'

STOPS = {
    'iscrowd missing': (drop('annotations', 'iscrowd'), 'whose iscrowd is neither 0 nor 1: 1'),
    'iscrowd null': (set_entry('annotations', 'iscrowd', None), 'iscrowd is neither 0 nor 1: 1'),
    'iscrowd a text': (set_entry('annotations', 'iscrowd', '0'), 'with iscrowd="0"; run'),
    'box missing': (drop('annotations', 'bbox'), 'annotations without a box of four numbers: 1'),
    'annotation id doubled': (double('annotations', 'id'), 'annotations with a duplicate id: 1'),
    'name missing': (drop('categories', 'name'), 'categories without a name: 1'),
    'box outside': (set_box(200, 5, 9, 9), 'boxes outside their image: 1'),
}


@pytest.fixture
def root(shapes_root, tmp_path):
    return shutil.copytree(shapes_root, tmp_path / 'set')


def plant(root, fault, split):
    path = root / f'annotations/instances_{split}2017.json'
    content = json.loads(path.read_text())
    fault(content, root)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def cfg(root):
    """Return a config of boxes that reads the dataset."""
    return config_of(root)


def config_of(root, with_mask=False):
    pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask)]
    cfg = dataset_config(CLASSES, 4, pipeline, data_root=f'{root}/')
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(ann_file=f'annotations/instances_{split}2017.json')
        dataset.data_prefix = dict(img=f'{split}2017/')
    return cfg


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('fault', STOPS)
def test_files_that_stop_mmdet_or_lose_objects(root, cfg, fault, split):
    mutate, words = STOPS[fault]
    path = plant(root, mutate, split)
    with pytest.raises(UserError) as error:
        check_annotations(cfg, ('train', 'val'))
    sentence = str(error.value)
    assert sentence.startswith(f'{path} has ')
    assert words in sentence
    assert f'run `dsnet-mm check-data {path} {root}/{split}2017/` for the remedy' in sentence
    assert '\n' not in sentence


def test_a_training_does_not_start(root, tmp_path):
    path = plant(root, drop('annotations', 'iscrowd'), 'val')
    cfg = load_config(str(DEMO), str(tmp_path / 'work'), data_root=str(root))
    with pytest.raises(UserError, match=f'{path} has annotations whose iscrowd'):
        preflight(cfg)
    assert not (tmp_path / 'work').exists()


def test_a_test_does_not_start(root, tmp_path):
    path = plant(root, drop('annotations', 'iscrowd'), 'val')
    cfg = load_config(str(DEMO), str(tmp_path / 'work'), data_root=str(root))
    with pytest.raises(UserError, match=f'{path} has annotations whose iscrowd'):
        evaluate(cfg, str(tmp_path / 'no.pth'))


def test_masks_matter_only_where_they_are_trained(root, cfg):
    plant(root, set_mask([[]]), 'train')
    plant(root, set_mask([[1, 2, 3, float('nan'), 5, 6]]), 'val')
    assert check_annotations(cfg, ('train', 'val')).warnings == []
    cfg = config_of(root, with_mask=True)
    with pytest.raises(UserError, match='objects without the mask that the config needs'):
        check_annotations(cfg, ('train',))
    with pytest.raises(UserError, match='masks that are neither polygons nor RLE'):
        check_annotations(cfg, ('val',))


def test_few_lost_objects_are_a_warning(root, cfg):
    """COCO's own training file has a few boxes below a pixel."""

    def add(content, folder):
        first = content['annotations'][0]
        content['annotations'] = [
            dict(first, id=number, bbox=[number % 80, number // 80, 9, 9 if number > 1 else 0.5])
            for number in range(1, 150)
        ]

    path = plant(root, add, 'train')
    (warning,) = check_annotations(cfg, ('train',)).warnings
    assert warning.startswith(f'{path} has boxes narrower or lower than one pixel: 1, such as')


def test_notes_stop_nothing(root, cfg):
    def note(content, folder):
        content['categories'].append(dict(id=9, name='circles'))
        content['annotations'] = content['annotations'][:1]
        content['annotations'][0]['segmentation'] = []

    plant(root, note, 'train')
    assert check_annotations(cfg, ('train',)).warnings == []


def test_a_checked_file_is_read_once(root, cfg, monkeypatch):
    reads = Counter()
    load = json.load
    monkeypatch.setattr(json, 'load', lambda file: reads.update([file.name]) or load(file))
    checked = check_annotations(cfg, ('train',))
    settings = {**cfg.train_dataloader.dataset, 'pipeline': [], 'serialize_data': False}
    with handed_over(checked.contents):
        first = DATASETS.build(settings)
    again = DATASETS.build(settings)
    assert first.data_list == again.data_list
    path = str(root / 'annotations/instances_train2017.json')
    assert reads == {path: 2}  # by the check, and by the second dataset


def test_other_formats_are_left_to_mmdet(root):
    path = plant(root, drop('annotations', 'iscrowd'), 'train')
    for kind in ('LVISV1Dataset', LVISV1Dataset, 'CocoPanopticDataset', 'CocoDataset', CocoDataset):
        cfg = dataset_config(CLASSES, ann_file=str(path))
        cfg.train_dataloader.dataset.type = kind
        if kind in ('CocoDataset', CocoDataset):
            with pytest.raises(UserError, match='iscrowd'):
                check_annotations(cfg, ('train',))
        else:
            assert check_annotations(cfg, ('train',)).contents == {}


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ClassBalancedDataset', 'ConcatDataset'])
def test_wrapped_datasets_are_checked(root, wrapper):
    path = plant(root, drop('annotations', 'iscrowd'), 'train')
    inner = dict(type='CocoDataset', ann_file=str(path))
    key, value = ('datasets', [inner, inner]) if wrapper == 'ConcatDataset' else ('dataset', inner)
    cfg = Config(dict(train_dataloader=dict(dataset={'type': wrapper, key: value})))
    with pytest.raises(UserError, match='iscrowd'):
        check_annotations(cfg, ('train',))
