"""Models as ONNX graphs: equality with PyTorch at any size, the tool, and docs/export.md."""

from __future__ import annotations

import json
import re
import resource
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmengine.config import Config, ConfigDict
from onnxruntime import InferenceSession
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dsnet_mm.analysis.building import build_model
from dsnet_mm.data.drawn_classes import palette_of
from dsnet_mm.deploy import checking, loading, onnx_file, smaller
from dsnet_mm.deploy.raw_graphs import Maps
from dsnet_mm.errors import UserError
from dsnet_mm.version import __version__
from helpers.commands import dsnet_mm_ends
from helpers.datasets import CLASSES
from helpers.documents import documented, read
from helpers.paths import ROOT

DOCUMENT = read('docs/export.md')
# odd ones, one below every stride, and one whose coarsest grids have a single cell
SIZES = [(128, 160), (97, 161), (211, 130), (31, 33)]
MODEL = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1),
                  num_heads=(1, 2, 3, 4), mlp_ratio=2),
        init_cfg=None),
    neck=dict(in_channels=[16, 32, 48, 64], {neck}),
    {head}
)
_base_.test_pipeline[1].scale = (80, 64)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
"""
NECK = 'out_channels=32'
DSFPN_NECK = NECK + ", block_norm_cfg=dict(type='GN', num_groups=4), mlp_ratio=1"
HEAD = 'bbox_head=dict(num_classes=4, in_channels=32, feat_channels=32, stacked_convs=1)'


def make(folder: Path, base: str, neck: str = NECK, head: str = HEAD) -> tuple[Path, Path]:
    """A config of a small model, and a checkpoint with weights that leave nothing trivial."""
    config = folder / f'{base}.py'
    torch.manual_seed(0)
    base = str(ROOT / 'configs' / f'{base}_1x_coco.py')
    config.write_text(MODEL.format(base=base, neck=neck, head=head))
    Config.fromfile(config).dump(config)  # without bases, whose reading takes a second each time
    model = build_model(config)
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if name.startswith('bbox_head.retina_'):
            nn.init.normal_(module.weight, std=0.02)
    checkpoint = folder / 'weights.pth'
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint


@pytest.fixture(scope='module')
def retinanet(tmp_path_factory) -> tuple[Path, Path]:
    return make(tmp_path_factory.mktemp('retinanet'), 'retinanet_dsnet_t_dsfpn', DSFPN_NECK)


@pytest.fixture(scope='module')
def plain_retinanet(tmp_path_factory) -> tuple[Path, Path]:
    return make(tmp_path_factory.mktemp('plain'), 'retinanet_dsnet_t_fpn')


@pytest.fixture(scope='module')
def mask_rcnn(tmp_path_factory) -> tuple[Path, Path]:
    return make(tmp_path_factory.mktemp('mask_rcnn'), 'mask_rcnn_dsnet_t_fpn', head='')


@pytest.fixture
def run(monkeypatch):
    """Run the tool in this process; return what it ends with, None for success."""

    def run(*arguments: object) -> str | None:
        return dsnet_mm_ends('export', *arguments) or None

    return run


@pytest.mark.parametrize(
    ('what', 'model', 'sizes'),
    [
        ('backbone', 'retinanet', [*SIZES, (1, 1), (5, 300)]),
        ('neck', 'mask_rcnn', SIZES),
        ('raw', 'retinanet', SIZES),
    ],
)
def test_the_graph_equals_the_model_at_any_size(what, model, sizes, request, tmp_path):
    config, checkpoint = request.getfixturevalue(model)
    what, raw = ('detector', True) if what == 'raw' else (what, False)
    part, facts = loading.load_part(str(config), str(checkpoint), what, raw)
    assert facts['format'] == ('raw' if raw else 'maps')
    file = tmp_path / 'graph.onnx'
    onnx_file.to_onnx(part, (96, 128), file, {})
    agreements = dict(checking.compare(part, file, sizes))
    assert list(agreements) == sizes
    assert all(agreement.is_close for agreement in agreements.values())


class OneSize(nn.Module):
    """A backbone whose graph holds the size of the image as a constant."""

    def forward(self, x):
        height, width = map(int, x.shape[2:])
        return (x.reshape(-1, 3, height * width)[..., : height * width // 2],)


def test_a_graph_of_one_size_is_seen(tmp_path, plain_retinanet, run, monkeypatch):
    model = nn.Module()
    model.backbone = OneSize()
    part = Maps(model, with_neck=False)
    assert not loading.is_tried(part)
    file = tmp_path / 'graph.onnx'
    onnx_file.to_onnx(part, (32, 32), file, {})
    agreements = list(dict(checking.compare(part, file, [(32, 32), (45, 64)])).values())
    assert agreements[1].failed

    monkeypatch.setattr(loading, 'is_tried', lambda part: False)
    message = run(plain_retinanet[0], tmp_path / 'other.onnx')
    assert 'is untested' in message
    assert 'pass --check' in message
    assert list(tmp_path.iterdir()) == [file]


def test_a_model_of_which_no_graph_can_be_made(tmp_path):
    model = nn.Module()
    model.backbone = nn.Unflatten(0, (1, 2))
    model.backbone.forward = lambda x: (torch.linalg.svd(x).S,)
    with pytest.raises(UserError, match='this model cannot be exported'):
        onnx_file.to_onnx(Maps(model, with_neck=False), (8, 8), tmp_path / 'graph.onnx', {})


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    model = nn.Module()
    model.backbone = nn.Sequential(ModulatedDeformConv2dPack(3, 4, 3, padding=1))
    model.backbone.forward = lambda x: (model.backbone[0](x),)
    with pytest.raises(UserError, match='ONNX has no operator .*DeformConv2d'):
        onnx_file.to_onnx(Maps(model, with_neck=False), (8, 8), tmp_path / 'graph.onnx', {})


def test_differences_are_seen(plain_retinanet, tmp_path):
    """A part whose graph is of other weights."""
    config, checkpoint = map(str, plain_retinanet)
    part, _ = loading.load_part(config, checkpoint, 'backbone')
    file = tmp_path / 'graph.onnx'
    onnx_file.to_onnx(part, (32, 32), file, {})
    part.backbone.stages[3].patch_embed.proj.bias.data += 1
    assert not dict(checking.compare(part, file, [(32, 32)]))[32, 32].is_close

    maps = torch.ones(1, 2, 4, 4)
    assert checking._difference(maps[..., :3], maps) == float('inf')
    assert checking._difference(maps * float('nan'), maps) == float('inf')
    assert checking._difference(maps * 1.5, maps * 2) == 0.25


def test_boxes_and_scores_are_those_that_mmdet_decodes(plain_retinanet):
    config, checkpoint = map(str, plain_retinanet)
    part = loading.load_part(config, checkpoint, 'detector', raw=True)[
        0
    ].double()  # no equal scores
    images = torch.randn(2, 3, 95, 130, dtype=torch.double)
    with torch.no_grad():
        boxes, scores = part(images)
        model = part.model
        outs = model.bbox_head(model.extract_feat(images))
        meta = dict(img_shape=(95, 130), scale_factor=(1, 1))
        found = model.bbox_head.predict_by_feat(
            *outs,
            batch_img_metas=[meta] * len(images),
            cfg=ConfigDict(nms_pre=10**6, score_thr=-1, min_bbox_size=-1),
            with_nms=False,
        )
    assert boxes.shape[:2] == scores.shape[:2]
    assert scores.shape[2] == len(CLASSES)
    for index, instances in enumerate(found):
        assert len(instances) == scores[index].numel()
        order = instances.scores.argsort(descending=True, stable=True)[:100]
        best, where = scores[index].flatten().topk(100)
        torch.testing.assert_close(instances.scores[order], best)
        anchors = where.div(len(CLASSES), rounding_mode='floor')
        torch.testing.assert_close(instances.bboxes[order], boxes[index, anchors])
        assert boxes[index].min() == 0
        assert boxes[index, :, 0::2].max() == 130
        assert boxes[index, :, 1::2].max() == 95


def run_documented_runtime(folder: Path) -> None:
    """Run the script that uses the graph, on a small image, and with a lower score."""
    (script,) = re.findall(r'```python\n(import.*?)```', DOCUMENT, re.DOTALL)
    assert '0.3' in script
    script = script.replace('0.3', '0')
    for name in ('retinanet.onnx', 'image.jpg'):
        script = script.replace(name, str(folder / name))
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    cv2.imwrite(str(folder / 'image.jpg'), image)
    names = {}
    exec(script, names)
    assert names['image'].shape == (64, 96, 3)  # 60x80 by the config's scale, then padded
    assert names['resized'] == (60, 80)


DETECTIONS = ['boxes', 'scores', 'labels']


@pytest.mark.parametrize(
    ('part', 'outputs', 'kind'),
    [
        ('--what backbone', ['map0', 'map1', 'map2', 'map3'], 'maps'),
        ('--check', DETECTIONS, 'detections'),
        ('--half', DETECTIONS, 'detections'),
        ('--int8', DETECTIONS, 'detections'),
        ('--raw', ['boxes', 'scores'], 'raw'),
    ],
)
def test_the_documented_commands(part, outputs, kind, retinanet, tmp_path, run, capsys):
    config, checkpoint = map(str, retinanet)
    program, name, *words = documented('docs/export.md', part)
    assert (program, name) == ('dsnet-mm', 'export')
    text = shlex.join(words)
    for word in words:
        if word.endswith('.py'):
            text = text.replace(word, config)
        elif word.endswith('.pth'):
            text = text.replace(word, checkpoint)
        elif word.endswith('.onnx'):
            text = text.replace(word, str(tmp_path / word))
            file = tmp_path / word
    reduced = part in ('--half', '--int8')
    assert run(*shlex.split(text), '--size', '96x128', *(['--check'] if reduced else [])) is None
    graph = onnx.load(str(file))
    assert [output.name for output in graph.graph.output] == outputs
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert facts['dsnet_mm'] == __version__
    assert facts['format'] == kind
    assert facts['weights'] == Path(checkpoint).name
    assert json.loads(facts['classes']) == list(CLASSES)
    palette = palette_of(CLASSES, {})
    assert json.loads(facts['palette']) == [list(color) for color in palette]
    assert ('score_thr' in facts) == (kind == 'detections')
    prepared = json.loads(facts['preprocessing'])
    assert prepared['mean'] == [123.675, 116.28, 103.53]
    assert prepared['bgr_to_rgb'] is True
    assert prepared['pad_size_divisor'] == 32
    assert (prepared['scale'], prepared['keep_ratio']) == ([80, 64], True)
    if part == '--check':
        run_documented_runtime(tmp_path)
    printed = capsys.readouterr().out
    if part == '--check':
        assert sum(line.split()[0] in CLASSES for line in printed.splitlines()) > 0
    if reduced or part == '--check':
        sizes = re.findall(r'^ *(\d+x\d+) .* detections', printed, re.MULTILINE)
        assert sizes == ['96x128', '133x219', '45x85']
    assert 'written  ' in printed


@pytest.fixture(scope='module')
def detections(retinanet, tmp_path_factory) -> tuple[loading.Part, Path]:
    """A RetinaNet with NMS, and its graph in float32."""
    part, _ = loading.load_part(*map(str, retinanet), 'detector')
    file = tmp_path_factory.mktemp('detections') / 'graph.onnx'
    onnx_file.to_onnx(part, (64, 96), file, {'key': 'value'})
    return part, file


def run_reduced(
    detections, reduce, share: float, folder: Path
) -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """Reduce a graph, see that it finds a share of the detections; return it and its outputs."""
    part, file = detections
    small = folder / 'small.onnx'
    shutil.copy(file, small)
    reduce(small)
    model = onnx.load(small)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props}['key'] == 'value'
    (agreement,) = dict(checking.compare(part, small, [(64, 96)], 0.9)).values()
    assert agreement.found >= share * agreement.expected > 10
    assert agreement.difference < 0.05
    torch.manual_seed(0)
    inputs = {name: x.numpy() for name, x in zip(part.inputs, part.example(1, (64, 96)))}
    return model, InferenceSession(small).run(None, inputs)


def test_a_graph_in_float16_computes_boxes_in_float32(detections, tmp_path):
    model, outputs = run_reduced(detections, smaller.halve, 0.9, tmp_path)
    convolutions = [node.input[1] for node in model.graph.node if node.op_type == 'Conv']
    types = {constant.name: constant.data_type for constant in model.graph.initializer}
    assert {types[name] for name in convolutions} == {onnx.TensorProto.FLOAT16}
    assert types['score_thr'] == onnx.TensorProto.FLOAT
    assert [x.dtype for x in outputs] == [np.float32, np.float32, np.int64]
    boxes = outputs[0][outputs[2] >= 0]
    inside = boxes[(boxes > 1) & (boxes < 60)]
    assert (inside != inside.astype(np.float16)).mean() > 0.9


def test_weights_of_a_graph_are_quantized(detections, tmp_path):
    """onnxruntime refuses convolutions whose weights another node computes."""
    model, _ = run_reduced(detections, smaller.quantize, 0.4, tmp_path)  # close scores
    operators = {node.op_type for node in model.graph.node}
    assert {'ConvInteger', 'MatMulInteger'} <= operators
    assert 'Conv' not in operators


def test_without_a_checkpoint_weights_are_random(
    plain_retinanet, tmp_path, run, capsys, monkeypatch
):
    contents = iter('12')
    monkeypatch.setattr(onnx_file, 'to_onnx', lambda p, s, path, f: path.write_text(next(contents)))
    file = tmp_path / 'new folder' / 'random.onnx'
    arguments = [plain_retinanet[0], '--what', 'backbone', file]
    assert run(*arguments) is None
    assert 'the weights are random' in capsys.readouterr().err
    assert 'random.onnx already exists' in run(*arguments)
    assert file.read_text() == '1'
    assert run(*arguments, '--force') is None
    assert file.read_text() == '2'
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ('config', 'what', 'words'),
    [
        ('nowhere.py', 'backbone', 'nowhere.py is not a file'),
        ('mask_rcnn_dsnet_t_fpn_1x_coco.py', 'raw', 'is a MaskRCNN, but --raw exports only a Ret'),
        ('pretrain/dsnet_t_in1k.py', 'detector', 'is a ImageClassifier, but only one-stage'),
        ('mmdet::no/such.py', 'backbone', 'mmdet::no/such.py'),
    ],
)
def test_models_that_do_not_fit(config, what, words):
    path = config if '::' in config else str(ROOT / 'configs' / config)
    with pytest.raises(UserError, match=words) as error:
        loading.load_part(path, None, 'detector' if what == 'raw' else what, what == 'raw')
    assert what == 'backbone' or '--what neck' in str(error.value)


def test_a_disk_that_takes_no_more_is_no_fault_of_the_model(
    plain_retinanet, tmp_path, run, monkeypatch
):
    """The system ends the file in its middle, as at the limit of a quota."""
    to_onnx = onnx_file.to_onnx

    def limited(*args):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            to_onnx(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(onnx_file, 'to_onnx', limited)
    message = run(plain_retinanet[0], '--what', 'backbone', tmp_path / 'graph.onnx')
    assert 'graph.onnx cannot be written; free some space' in message
    assert 'File too large' in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('option', ['--check', '--half', '--int8'])
@pytest.mark.parametrize('module', ['onnx', 'onnxruntime'])
def test_missing_packages_are_named_before_the_work(module, option, tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = run('nowhere.py', tmp_path / 'graph.onnx', option)
    assert f'{module} cannot be imported' in message
    assert 'pip install' in message


def test_a_graph_that_differs_is_not_written(plain_retinanet, tmp_path, run, monkeypatch):
    monkeypatch.setattr(onnx_file, 'to_onnx', lambda part, size, path, facts: path.touch())
    monkeypatch.setattr(
        checking, 'compare', lambda *_: iter([((32, 32), checking.Agreement(2e-4))])
    )
    message = run(plain_retinanet[0], tmp_path / 'graph.onnx', '--what', 'backbone', '--check')
    assert 'differs from PyTorch at 32x32 (2.0e-04)' in message
    assert list(tmp_path.iterdir()) == []
