"""Test that graphs, and models in bfloat16, detect on images what models in PyTorch detect."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from dsnet_mm.data.shapes import ShapesDetection
from dsnet_mm.deploy.runtimes import RUNTIMES
from dsnet_mm.engine import half_precision
from helpers.commands import dsnet_mm_ends, run_process
from helpers.detectors import make_detector
from helpers.paths import ROOT

SCORE = 0.4
# pixels, and the share of equal objects; OpenVINO approximates functions, which the large random
# weights magnify
TOLERANCES = dict(onnxruntime=(0.01, 0.95), openvino=(0.2, 0.85))
SETTINGS = {
    'retinanet_dsnet_t_fpn_1x_coco': 'dict(score_thr=0.05, max_per_img=30)',
    'mask_rcnn_dsnet_t_fpn_1x_coco': 'dict(rpn=dict(max_per_img=60), rcnn=dict(max_per_img=20))',
}


@pytest.fixture(scope='module', params=SETTINGS)
def predicted(request, tmp_path_factory):
    """Export a detector, and detect with PyTorch; return the folder and its predictions."""
    pytest.importorskip('onnx', reason='writes a graph')
    folder = tmp_path_factory.mktemp(request.param)
    ShapesDetection(train=1, val=6, size=80).write(folder / 'shapes')
    config, checkpoint = make_detector(folder, request.param, SETTINGS[request.param])
    # scores of random weights are almost equal, and their order would depend on rounding
    stored = torch.load(checkpoint, weights_only=True)
    for name, tensor in stored['state_dict'].items():
        if name.endswith(('retina_cls.weight', 'rpn_cls.weight', 'fc_cls.weight')):
            tensor *= 40
        elif name.endswith('retina_cls.bias'):
            tensor.zero_()
        elif name.endswith('conv_logits.weight'):
            tensor *= 5
    torch.save(stored, checkpoint)
    assert not dsnet_mm_ends('export', config, checkpoint, folder / 'graph.onnx')
    return folder, predict(folder, 'pytorch', config, checkpoint)


def predict(folder: Path, name: str, *model: object, **options: object) -> dict:
    """Detect on the validation images, and return the content of predictions.json."""
    options = dict(options, score=SCORE, out=folder / name, device='cpu')
    words = [word for option, value in options.items() for word in (f'--{option}', value)]
    assert not dsnet_mm_ends('predict', *model, folder / 'shapes' / 'val2017', *words)
    return json.loads((folder / name / 'predictions.json').read_text())


def agree(a: dict, b: dict, pixels: float) -> bool:
    """Return whether two annotations are equal up to rounding, and boxes up to some pixels."""
    same = a['image_id'] == b['image_id'] and a['category_id'] == b['category_id']
    near = np.abs(np.subtract(a['bbox'], b['bbox'])).max() < pixels
    if not (same and near and abs(a['score'] - b['score']) < pixels / 10):
        return False
    if 'segmentation' not in a:
        return 'segmentation' not in b
    first, second = (rle.decode(item['segmentation']) for item in (a, b))
    return (first != second).mean() < 0.01


def share_of_matches(objects: list[dict], others: list[dict], pixels: float) -> float:
    """Return the share of the objects of PyTorch that the other detections contain."""
    assert len(objects) > 20
    assert len({item['category_id'] for item in objects}) > 1
    assert abs(len(others) - len(objects)) <= 0.05 * len(objects) + 1
    return float(np.mean([any(agree(a, b, pixels) for b in others) for a in objects]))


@pytest.mark.slow
def test_predictions_in_bfloat16_are_close(predicted, monkeypatch):
    monkeypatch.setattr(half_precision, 'cpu_flags', lambda: {'avx512_bf16'})
    folder, wanted = predicted
    model = (*folder.glob('*.py'), *folder.glob('*.pth'))
    given = predict(folder, 'bf16', *model, precision='bf16')
    assert share_of_matches(wanted['annotations'], given['annotations'], 1.0) >= 0.85
    assert given['annotations'] != wanted['annotations']


@pytest.mark.slow
@pytest.mark.parametrize('runtime', RUNTIMES)
def test_predictions_of_a_graph_equal_those_of_pytorch(predicted, runtime):
    """A few may differ, where rounding decides whether NMS removes a box."""
    pytest.importorskip(runtime, reason='runs a graph')
    folder, wanted = predicted
    given = predict(folder, runtime, folder / 'graph.onnx', runtime=runtime)
    assert given['images'] == wanted['images']
    assert given['categories'] == wanted['categories']
    pixels, share = TOLERANCES[runtime]
    assert share_of_matches(wanted['annotations'], given['annotations'], pixels) >= share
    different = []
    for picture in sorted((folder / 'pytorch' / 'pictures').iterdir()):
        pixels = cv2.imread(str(picture)).astype(int)
        others = cv2.imread(str(folder / runtime / 'pictures' / picture.name))
        different.append((np.abs(pixels - others).max(2) > 60).mean())
    assert np.median(different) < 1 - share


@pytest.mark.slow
def test_the_table_of_the_docs(predicted):
    """It has a row for each runtime and type, of which PyTorch comes first."""
    for runtime in RUNTIMES:
        pytest.importorskip(runtime, reason='runs a graph')
    folder, _ = predicted
    if not list(folder.glob('mask*.py')):
        pytest.skip('once is enough')
    path = folder / 'shapes' / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    content['images'] = content['images'][:1]
    content['annotations'] = [
        item for item in content['annotations'] if item['image_id'] == content['images'][0]['id']
    ]
    path.with_name('one.json').write_text(json.dumps(content))
    (config,) = map(str, folder.glob('mask*.py'))
    arguments = (
        config,
        config.replace('.py', '.pth'),
        str(path.with_name('one.json')),
        str(folder / 'shapes' / 'val2017'),
    )
    # in a process of its own: a training in this one would end in a segmentation fault afterwards
    code = (
        f'import json; from measure_export import measure; print(json.dumps(measure(*{arguments})))'
    )
    printed = run_process('-W', 'ignore', '-c', code, PYTHONPATH=f'{ROOT / "docs"}:{ROOT}')
    rows = json.loads(next(line for line in printed.splitlines() if line.startswith('[[')))
    assert [row[:3] for row in rows[:3]] == [
        ['MaskRCNN', 'PyTorch', 'float32'],
        ['MaskRCNN', 'PyTorch', 'bfloat16'],
        ['MaskRCNN', 'onnxruntime', 'float32'],
    ]
    sizes = {tuple(row[1:3]): float(row[3]) for row in rows[:-1]}
    assert sizes['onnxruntime', 'int8'] < sizes['onnxruntime', 'float16']
    assert sizes['onnxruntime', 'float16'] < 0.6 * sizes['onnxruntime', 'float32']
    assert rows[2][6:] == rows[0][6:]
