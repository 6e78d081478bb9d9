"""Test that the pictures of all commands show a class in one color and with a readable name."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from pycocotools.coco import COCO

from dsnet_mm.data.drawn_classes import palette_of
from helpers.commands import dsnet_mm_ends, run_command
from helpers.detectors import TINY_DETECTOR

NAMES = ('杯子', 'key', 'ring', 'spoon')
OWN = [(255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255)]
LINE_WIDTH, OPACITY = 3, 0.8  # those of mmdet
CONFIG = f"""{TINY_DETECTOR}
meta = dict(_delete_=True, classes={NAMES}, PALETTE)
data = dict(data_root='data/', ann_file='ann.json', data_prefix=dict(img=''), metainfo=meta)
train_dataloader = dict(batch_size=4, dataset=data, **loader)
val_dataloader = dict(batch_size=1, dataset=data, **loader)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/ann.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = []
model = dict(test_cfg=dict(score_thr=0, max_per_img=2))
default_hooks = dict(visualization=dict(draw=True, interval=1, score_thr=0.0))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Change to a folder with a config and black images, whose boxes have the labels 0 to 3."""
    (tmp_path / 'data').mkdir()
    images, annotations = [], []
    for label in range(4):
        name = f'{label}.png'
        cv2.imwrite(str(tmp_path / 'data' / name), np.zeros((96, 96, 3), np.uint8))
        images.append(dict(id=label + 1, file_name=name, width=96, height=96))
        box = dict(bbox=[20, 30, 60, 40], area=2400, iscrowd=0, segmentation=[])
        annotations.append(dict(id=label + 1, image_id=label + 1, category_id=label + 1, **box))
    categories = [dict(id=i, name=name) for i, name in enumerate(NAMES, start=1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / 'data/ann.json').write_text(json.dumps(content))
    (tmp_path / 'config.py').write_text(CONFIG.replace('PALETTE', ''))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def color_at(picture, box):
    """Return the color of the edge of a box (x, y, width, height) on black."""
    left, top, width, height = map(round, box)
    image = cv2.imread(str(picture))[..., ::-1].astype(float)
    rows = image[top + height // 3 : top + 2 * height // 3]
    edge = np.median(rows[:, left], axis=0)
    if picture.suffix == '.jpg':  # whose colors, but not whose brightness, spread over a line
        edge = np.median(rows[:, left - 8 : left + 8].sum(axis=1), axis=0) / LINE_WIDTH
    return edge / OPACITY


def assert_color(picture, box, color):
    """Compare with a tolerance, because JPEG spreads colors."""
    assert np.abs(color_at(picture, box) - color).max() < 90, picture


def drawn(folder):
    return sorted(path for path in Path(folder).rglob('*') if path.suffix in ('.png', '.jpg'))


@pytest.mark.parametrize('palette', [None, OWN])
def test_commands_agree_on_the_color_of_a_class(place, palette):
    if palette:
        (place / 'config.py').write_text(CONFIG.replace('PALETTE', f'palette={palette}'))
    colors = palette or palette_of(NAMES, {})
    box = [20, 30, 60, 40]
    model = MODELS.build(Config.fromfile('config.py').model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=NAMES))),
               'weights.pth')  # fmt: skip

    checked = dsnet_mm_ends('check-data', 'data/ann.json', 'data', '--config', 'config.py',
                            '--draw', 'checked')  # fmt: skip
    assert not checked
    for picture, color in zip(drawn('checked'), colors, strict=True):
        assert_color(picture, box, color)

    tested = run_command('test', 'config.py', 'weights.pth', '--show-dir', 'tested', cwd=place)
    assert tested.returncode == 0, tested.stderr
    for picture, color in zip(drawn('tested'), colors, strict=True):
        assert_color(picture, box, color)

    assert not dsnet_mm_ends('predict', 'config.py', 'weights.pth', 'data', '--score', 0, '--out',
                             'predicted', '--device', 'cpu')  # fmt: skip
    found = COCO('predicted/predictions.json')
    for image in found.dataset['images']:
        *_, best = sorted(found.imgToAnns[image['id']], key=lambda item: item['score'])
        picture = place / 'predicted/pictures' / image['file_name']
        assert_color(picture, best['bbox'], colors[best['category_id'] - 1])


def test_check_data_without_a_config_has_the_same_colors(place):
    assert not dsnet_mm_ends('check-data', 'data/ann.json', 'data', '--draw', 'checked')
    for picture, color in zip(drawn('checked'), palette_of(NAMES, {}), strict=True):
        assert_color(picture, [20, 30, 60, 40], color)


def test_a_config_with_some_of_the_classes_sets_the_colors(place):
    """Otherwise the colors would shift, because a config numbers its own classes only."""
    text = CONFIG.replace('PALETTE', '').replace(str(NAMES), str(NAMES[2:]))
    (place / 'config.py').write_text(text)
    dsnet_mm_ends('check-data', 'data/ann.json', 'data', '--config', 'config.py', '--draw', 'few')
    first, second, *_ = palette_of(NAMES, {})
    for picture, color in zip(drawn('few')[2:], (first, second), strict=True):
        assert_color(picture, [20, 30, 60, 40], color)


def test_a_training_warns_once_about_a_name_without_a_font(place, monkeypatch):
    """Its pictures show numbers, in the colors of the other commands."""
    monkeypatch.setattr('dsnet_mm.data.class_fonts._read_new_fonts', lambda: None)
    monkeypatch.setattr('dsnet_mm.data.class_fonts._installed', lambda: [])
    done = run_command('train', 'config.py', '--work-dir', 'work', cwd=place)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count('1 class name cannot be drawn') == 1
    assert 'pictures show numbers: class 1 = 杯子;' in done.stdout + done.stderr
    assert 'missing from' not in done.stdout + done.stderr
    pictures = sorted(drawn('work'), key=lambda path: int(path.stem.rpartition('_')[2]))
    for picture, color in zip(pictures, palette_of(NAMES, {}), strict=True):
        assert_color(picture, [20, 30, 60, 40], color)
