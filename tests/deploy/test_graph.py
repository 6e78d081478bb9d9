"""Test `dsnet-mm predict` and `test` with graphs, whose detections are constants."""

from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest

from dsnet_mm.deploy.runtimes import RUNTIMES
from helpers.commands import dsnet_mm_ends, run_process
from helpers.datasets import CLASSES
from helpers.documents import documented
from helpers.graphs import BOXES, FACTS, LABELS, PALETTE, SCORES, write_graph

IMAGE = np.full((40, 60, 3), (0, 0, 255), np.uint8)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Change to a folder with a graph of masks and a folder of two images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    for name in 'ab':
        cv2.imwrite(f'images/{name}.png', IMAGE)
    write_graph(tmp_path / 'graph.onnx', with_masks=True)
    return tmp_path


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_detections_are_drawn_and_written(place, runtime, capsys):
    pytest.importorskip(runtime, reason='runs a graph')
    options = ['--runtime', runtime, '--score', 0.5, '--out', 'out', '--device', 'cpu']
    assert not dsnet_mm_ends('predict', 'graph.onnx', 'images', *options)
    assert '4 objects in 2 images' in capsys.readouterr().out
    content = json.loads((place / 'out' / 'predictions.json').read_text())
    assert [item['name'] for item in content['categories']] == list(CLASSES)
    assert [item['file_name'] for item in content['images']] == ['a.png', 'b.png']
    for number, item in enumerate(content['annotations']):
        left, top, right, bottom = BOXES[number % 2]
        assert item['bbox'] == [left, top, right - left, bottom - top]
        assert item['category_id'] == LABELS[number % 2] + 1
        assert item['score'] == pytest.approx(SCORES[number % 2])
    assert content['annotations'][0]['area'] == 30 * 25 / 2  # the left half
    drawn = cv2.imread('out/pictures/a.png')
    color = PALETTE[LABELS[0]][::-1]
    assert np.abs(drawn[25, 15] - (0.8 * np.array(color) + 0.2 * IMAGE[0, 0])).max() < 8
    assert drawn[2, 2].tolist() == [0, 0, 255]


def test_scores_that_the_graph_lacks_are_noted(place, capsys):
    pytest.importorskip('onnxruntime', reason='runs a graph')
    assert not dsnet_mm_ends('predict', 'graph.onnx', 'images', '--score', 0)
    printed = capsys.readouterr()
    assert '6 objects in 2 images' in printed.out  # without the empty place
    assert printed.err.strip() == (
        'note: graph.onnx holds no detections below 0.05, the score_thr of its config'
    )


@pytest.mark.parametrize('command', ['predict', 'test'])
@pytest.mark.parametrize('runtime', RUNTIMES)
def test_pytorch_and_openmmlab_are_not_imported(place, command, runtime):
    pytest.importorskip(runtime, reason='runs a graph')
    (place / 'ann.json').write_text(json.dumps(annotations()))
    words = dict(
        predict=['graph.onnx', 'images'],
        test=['graph.onnx', '--ann', 'ann.json', '--images', 'images'],
    )
    argv = ['dsnet-mm', command, *words[command], '--runtime', runtime]
    code = f"""
import sys
sys.argv = {argv!r}
from dsnet_mm.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = ('torch', 'torchvision', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain')
print('imported:', *(name for name in heavy if name in sys.modules))
"""
    assert run_process('-c', code, cwd=place).endswith('imported:\n')


def test_the_documented_commands(place, capsys):
    pytest.importorskip('onnxruntime', reason='runs a graph')
    write_graph(place / 'retinanet.onnx')
    (place / 'data' / 'own' / 'annotations').mkdir(parents=True)
    (place / 'data' / 'own' / 'annotations' / 'val.json').write_text(json.dumps(annotations()))
    for name in ('a.png', 'b.png'):
        shutil.copy(f'images/{name}', 'data/own')
    (place / 'images').rename('data/photos')
    for command in ('predict', 'test'):
        program, *words = documented('docs/export.md', f'dsnet-mm {command}')
        assert program == 'dsnet-mm'
        assert not dsnet_mm_ends(*words)
    assert (place / 'work_dirs' / 'photos' / 'pictures' / 'a.png').is_file()
    assert 'coco/bbox_mAP ' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('facts', 'words'),
    [
        ({}, 'other.onnx does not come from `dsnet-mm export`, or from an older version; export'),
        (dict(FACTS, format='raw'), 'because its format is raw; export the model again without'),
        (dict(FACTS, format='maps'), 'export the model again without --what'),
        (dict(FACTS, preprocessing='{}'), 'other.onnx does not say how to resize images; set'),
    ],
)
def test_other_graphs_are_reported(place, facts, words):
    pytest.importorskip('onnxruntime', reason='runs a graph')
    write_graph(place / 'other.onnx', facts)
    message = dsnet_mm_ends('predict', 'other.onnx', 'images')
    assert re.fullmatch(r'error: [^\n]+', message)
    assert words in message
    assert not (place / 'predictions').exists()


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_a_missing_runtime_is_reported(place, runtime, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, runtime, None)
    message = dsnet_mm_ends('predict', 'graph.onnx', 'images', '--runtime', runtime)
    assert f'error: {runtime} cannot be imported (' in message
    assert f'run `pip install {runtime}`, or `pip install ".[' in message


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_devices_that_a_runtime_lacks_are_reported(place, runtime):
    pytest.importorskip(runtime, reason='runs a graph')
    options = ['--runtime', runtime, '--device', 'npu:7']
    message = dsnet_mm_ends('predict', 'graph.onnx', 'images', *options)
    assert 'has no device npu:7 here; pass' in message.replace('NPU', 'npu')


def annotations() -> dict:
    """Return annotations of two images, whose objects are those of the graph in one of them."""
    images = [
        dict(id=i, file_name=f'{name}.png', width=60, height=40)
        for i, name in enumerate('ab', start=7)
    ]
    objects = []
    for image, shift in ((7, 0), (8, 9)):
        for (left, top, right, bottom), label in zip(BOXES[:3], LABELS):
            box = [left, top + shift, right - left, bottom - top - shift]
            x, y, width, height = box
            outline = [x, y, x + width / 2, y, x + width / 2, y + height, x, y + height]
            objects.append(
                dict(id=len(objects) + 1, image_id=image, category_id=30 + label, bbox=box,
                     area=width * height / 2, iscrowd=0, segmentation=[outline])
            )  # fmt: skip
    categories = [dict(id=30 + i, name=name) for i, name in enumerate(CLASSES)]
    return dict(images=images, annotations=objects, categories=categories)


def test_average_precisions(place, capsys):
    """Boxes in one of two images are right, and all scores are equal in both."""
    pytest.importorskip('onnxruntime', reason='runs a graph')
    (place / 'ann.json').write_text(json.dumps(annotations()))
    assert not dsnet_mm_ends('test', 'graph.onnx', '--ann', 'ann.json', '--images', 'images')
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines() if 'coco/' in line)
    assert list(lines)[::6] == ['coco/bbox_mAP', 'coco/segm_mAP']
    assert 0.5 <= float(lines['coco/bbox_mAP']) < 0.9
    perfect = annotations()
    perfect['images'].pop()
    perfect['annotations'] = perfect['annotations'][:3]
    (place / 'ann.json').write_text(json.dumps(perfect))
    assert not dsnet_mm_ends('test', 'graph.onnx', '--ann', 'ann.json', '--images', 'images')
    printed = capsys.readouterr().out
    assert re.search(r'coco/bbox_mAP +1.0000\n', printed)
    assert re.search(r'coco/segm_mAP_75 +1.0000\n', printed)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ('', 'the graph graph.onnx names no dataset; pass --ann FILE and --images DIR'),
        ('--ann ann.json --images images --fuse', '--fuse is for a config, but graph.onnx is a'),
        ('--ann other.json --images images', 'other.json has none of the classes'),
        ('--ann half.json --images images', 'half.json is not valid JSON'),
        ('--ann ann.json --images .', 'a.png cannot be read as an image'),
    ],
)
def test_unusable_datasets_are_reported(place, options, words):
    pytest.importorskip('onnxruntime', reason='runs a graph')
    content = annotations()
    (place / 'ann.json').write_text(json.dumps(content))
    content['categories'] = [dict(item, name=f'{item["name"]} 2') for item in content['categories']]
    (place / 'other.json').write_text(json.dumps(content))
    (place / 'half.json').write_text('{')
    message = dsnet_mm_ends('test', 'graph.onnx', *options.split())
    assert words in message
    assert re.fullmatch(r'error: [^\n]+', message)
