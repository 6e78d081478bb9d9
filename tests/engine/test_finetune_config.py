"""Test that `dsnet-mm new-config` writes configs that need no change."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from dsnet_mm.data.locate import check_data, find_datasets
from dsnet_mm.engine.config import load_config
from helpers.commands import dsnet_mm_ends, run_command
from helpers.datasets import read_json, write_split
from helpers.paths import ROOT

BASES = [
    'retinanet_dsnet_s_finetune',
    'mask_rcnn_dsnet_s_finetune',
    'retinanet_dsnet_mini_finetune',
]
SMALL = (
    'model.backbone.init_cfg=None load_from=None model.backbone.norm_eval=False '
    'train_cfg.max_epochs=1 train_dataloader.num_workers=0 val_dataloader.num_workers=0 '
    'test_dataloader.num_workers=0 train_dataloader.batch_size=8 '
    'train_dataloader.dataset.pipeline.2.scale=(96,96) '
    'val_dataloader.dataset.pipeline.1.scale=(96,96) '
    'test_dataloader.dataset.pipeline.1.scale=(96,96)'
).split()


@pytest.fixture
def converted(tmp_path, shapes_root):
    """Convert YOLO polygons to files outside of the dataset; return both folders."""
    root, out = tmp_path / 'my data', tmp_path / 'out/annotations'
    write_split('yolo', root, shapes_root, 'train/images', 'train/labels', polygons=True)
    write_split('yolo', root, shapes_root, 'valid/images', 'valid/labels', 'val', polygons=True)
    (root / 'classes.txt').write_text('it\'s\na "square"\n星\ntriangle\n', encoding='utf-8')
    assert dsnet_mm_ends('convert-data', 'yolo', root, out) == 0
    return root, out


def new_config(out, *words):
    return dsnet_mm_ends('new-config', *words, '--out', out)


@pytest.mark.parametrize('base', BASES)
def test_all_settings_follow(converted, tmp_path, monkeypatch, capsys, base):
    """The config is read in another folder, and `check-data` finds no problem."""
    root, annotations = converted
    out = tmp_path / 'configs of mine/my_config.py'
    assert new_config(out, annotations, '--images', root, '--base', base) == 0
    printed = capsys.readouterr().out
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    cfg = load_config(str(out))
    check_data(cfg)
    for split in ('train', 'val', 'test'):
        (dataset,) = find_datasets(cfg, (split,))
        assert dataset.metainfo.classes == ("it's", 'a "square"', '星', 'triangle')
        file = 'train' if split == 'train' else 'val'
        assert dataset.ann_file == str(annotations / f'{file}.json')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.ann_file == str(annotations / 'val.json')
    assert cfg.load_from == cfg.model.backbone.init_cfg.checkpoint
    assert ('dsnet-mm demo' in printed) == ('mini' in base)
    checks = [line for line in printed.splitlines() if line.startswith('  dsnet-mm check-data')]
    assert len(checks) == 2
    for line in checks:
        assert dsnet_mm_ends(*shlex.split(line)[1:]) == 0


def test_printed_settings_fit(tmp_path, shapes_root, capsys):
    """Paste the lines of `convert-data` into a config: the annotation files are elsewhere."""
    root, out = tmp_path / 'my data', tmp_path / 'out/annotations'
    write_split('voc', root, shapes_root, 'train', 'train')
    write_split('voc', root, shapes_root, 'val', 'val', 'val')
    assert dsnet_mm_ends('convert-data', 'voc', root, out) == 0
    lines = capsys.readouterr().out.partition('In a config:\n')[2].partition('\nOr write')[0]
    settings = [line.strip() for line in lines.splitlines()]
    assert [line.split(' = ')[0] for line in settings] == [
        'data_root', 'classes', 'train_set', 'val_set'
    ]  # fmt: skip
    text = (ROOT / f'configs/finetune/{BASES[0]}.py').read_text()
    text = text.replace("'../", f"'{ROOT}/configs/")
    for line in settings:
        name = line.split(' = ')[0]
        text = re.sub(rf'^{name} = .*$', lambda _, line=line: line, text, flags=re.MULTILINE)
    (tmp_path / 'pasted.py').write_text(text)
    cfg = load_config(str(tmp_path / 'pasted.py'))
    check_data(cfg)
    assert cfg.val_evaluator.ann_file == str(out / 'val.json')
    dataset = cfg.train_dataloader.dataset
    names = [image['file_name'] for image in read_json(out / 'train.json')['images']]
    folder = Path(dataset.data_root) / dataset.data_prefix.img
    assert names
    assert all((folder / name).is_file() for name in names)


def test_a_dataset_in_the_layout_of_coco(tmp_path, shapes_root, monkeypatch):
    """One class of more than four, folders of images per split, and relative paths."""
    shutil.copytree(shapes_root, tmp_path / 'coco')
    for path in (tmp_path / 'coco/annotations').iterdir():
        content = read_json(path)
        content['categories'].append(dict(id=9, name='ring'))
        path.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    files = [f'coco/annotations/instances_{split}2017.json' for split in ('train', 'val')]
    assert new_config('own.py', *files, '--weights', 'coco.pth') == 0
    cfg = load_config('own.py')
    check_data(cfg)
    assert cfg.model.bbox_head.num_classes == 5
    assert cfg.load_from == cfg.model.backbone.init_cfg.checkpoint == 'coco.pth'
    assert cfg.train_dataloader.dataset.data_prefix.img == 'train2017/'
    assert cfg.val_dataloader.dataset.data_prefix.img == 'val2017/'
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/instances_val2017.json'
    folders = ['coco/train2017', 'coco/val2017']
    assert new_config('own.py', *files, '--images', *folders, '--force') == 0
    assert load_config('own.py').train_dataloader.dataset.data_prefix.img == 'train2017/'


@pytest.mark.slow
@pytest.mark.parametrize('base', ['mask_rcnn_dsnet_s_finetune', 'retinanet_dsnet_mini_finetune'])
def test_it_trains(converted, tmp_path, base):
    root, annotations = converted
    out = tmp_path / 'my_config.py'
    assert new_config(out, annotations, '--images', root, '--base', base) == 0
    small = ['model.backbone.arch=tiny'] if 'mini' not in base else []
    done = run_command('train', out, '--cfg-options', *SMALL, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'work_dirs/my_config/epoch_1.pth').exists()


def test_bad_arguments(converted, tmp_path):
    root, annotations = converted
    (tmp_path / 'mine.py').write_text('')
    boxes = tmp_path / 'boxes.json'
    content = read_json(annotations / 'train.json')
    for annotation in content['annotations']:
        annotation['segmentation'] = []
    boxes.write_text(json.dumps(content))
    other = tmp_path / 'other.json'
    content['categories'] = content['categories'][::-1]
    other.write_text(json.dumps(content))
    lost = tmp_path / 'lost.json'
    content['images'][0]['file_name'] = 'gone.jpg'
    lost.write_text(json.dumps(content))
    train, val, images = annotations / 'train.json', annotations / 'val.json', ('--images', root)
    cases = [
        ('x.json', (annotations, *images), 'must end in .py'),
        ('mine.py', (annotations, *images), 'mine.py already exists; choose another file or pass'),
        ('new.py', (lost, val), 'no folder near'),
        ('new.py', (annotations, '--images', tmp_path), 'holds none of the images'),
        ('new.py', (annotations, *images, root, root), '--images accepts one or two folders'),
        ('new.py', (train, *images), 'pass both, or divide one with'),
        ('new.py', (tmp_path, *images), 'train.json does not exist; pass the annotation files'),
        ('new.py', (other, val, *images), "(category 0 is triangle and it's)"),
        (
            'new.py',
            (annotations, *images, '--base', 'yolo'),
            'yolo is not a base; choose mask_rcnn',
        ),
        ('new.py', (boxes, val, *images, '--base', BASES[1]), 'boxes.json has no masks'),
        (
            'new.py',
            (annotations, *images, '--base', ROOT / 'configs' / 'mask2former_dsnet_s_50e_coco.py'),
            'number of classes in num_things_classes, which `dsnet-mm new-config` does not support',
        ),
    ]
    for out, words, sentence in cases:
        code = new_config(tmp_path / out, *words)
        assert isinstance(code, str), words
        assert sentence in code
        assert '\n' not in code
        assert not (tmp_path / 'new.py').exists()
