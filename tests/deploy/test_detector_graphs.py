"""Graphs of detectors: their detections equal mmdet's, in onnxruntime and in OpenVINO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from onnxruntime import InferenceSession
from torch import nn
from torchvision.ops import box_iou

from dsnet_mm.deploy.checking import paste, predictions
from dsnet_mm.deploy.detector_graphs import Detector, OneStageGraph
from dsnet_mm.deploy.onnx_file import to_onnx
from dsnet_mm.deploy.two_stage_graphs import TwoStageGraph
from dsnet_mm.engine.building import initialize
from dsnet_mm.errors import UserError

CLASSES, CHANNELS, MOST = 4, 16, 20
INPUTS = [(1, (96, 128)), (2, (61, 150))]  # batch, height and width
BACKBONE = dict(
    type='DSNet',
    arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=1),
)
FPN = dict(type='FPN', in_channels=[8, 16, 24, 32], out_channels=CHANNELS, num_outs=4)
DSFPN = dict(FPN, type='DSFPN', block_norm_cfg=dict(type='GN', num_groups=4), mlp_ratio=1)
HEAD = dict(num_classes=CLASSES, in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=1)
NMS = dict(type='nms', iou_threshold=0.5)
TEST_CFG = dict(nms_pre=60, min_bbox_size=0, score_thr=0.0, nms=NMS, max_per_img=MOST)
STRIDES = [4, 8, 16, 32]
ANCHORS = dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=STRIDES)
SQUARES = dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=STRIDES)
FOCAL = dict(type='FocalLoss', use_sigmoid=True)
SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)
RPN_CFG = dict(nms_pre=60, max_per_img=30, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
RCNN_CFG = dict(score_thr=0.0, nms=NMS, max_per_img=MOST, mask_thr_binary=0.5)

PRECISE = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1}
LAST_LAYERS = ('_cls', '_reg', 'conv_logits', 'conv_centerness')


def one_stage(kind: str, neck: dict[str, Any] = FPN, **head: Any) -> dict[str, Any]:
    return dict(type=kind, backbone=BACKBONE, neck=neck, test_cfg=TEST_CFG, bbox_head=HEAD | head)


def extractor(size: int) -> dict[str, Any]:
    layer = dict(type='RoIAlign', output_size=size, sampling_ratio=0)
    return dict(type='SingleRoIExtractor', roi_layer=layer, out_channels=CHANNELS,
                featmap_strides=STRIDES[:3], finest_scale=16)  # fmt: skip


def box_head(**changes: Any) -> dict[str, Any]:
    return dict(type='Shared2FCBBoxHead', in_channels=CHANNELS, fc_out_channels=24, roi_feat_size=7,
                num_classes=CLASSES, loss_cls=SOFTMAX, **changes)  # fmt: skip


def two_stage(kind: str, roi_head: dict[str, Any], with_mask: bool) -> dict[str, Any]:
    if with_mask:
        mask_head = dict(type='FCNMaskHead', num_convs=1, in_channels=CHANNELS,
                         conv_out_channels=CHANNELS, num_classes=CLASSES)  # fmt: skip
        roi_head = roi_head | dict(mask_roi_extractor=extractor(14), mask_head=mask_head)
    rpn = dict(type='RPNHead', in_channels=CHANNELS, feat_channels=CHANNELS,
               anchor_generator=ANCHORS)  # fmt: skip
    return dict(type=kind, backbone=BACKBONE, neck=FPN, rpn_head=rpn, roi_head=roi_head,
                train_cfg=None, test_cfg=dict(rpn=RPN_CFG, rcnn=RCNN_CFG))  # fmt: skip


STANDARD = dict(type='StandardRoIHead', bbox_roi_extractor=extractor(7), bbox_head=box_head())
CASCADE = dict(
    type='CascadeRoIHead',
    num_stages=3,
    stage_loss_weights=[1, 0.5, 0.25],
    bbox_roi_extractor=extractor(7),
    bbox_head=[box_head(reg_class_agnostic=agnostic) for agnostic in (True, False, True)],
)
MODELS_BY_NAME = {
    'retinanet': one_stage('RetinaNet', DSFPN, type='RetinaHead', anchor_generator=ANCHORS),
    'softmax_retinanet': one_stage(
        'RetinaNet', type='RetinaHead', anchor_generator=ANCHORS, loss_cls=SOFTMAX
    ),
    'atss': one_stage('ATSS', type='ATSSHead', anchor_generator=SQUARES, loss_cls=FOCAL,
                      norm_cfg=dict(type='GN', num_groups=4)),
    'fcos': one_stage('FCOS', type='FCOSHead', strides=STRIDES, norm_cfg=None,
                      regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 1e8))),
    'fsaf': one_stage('FSAF', type='FSAFHead', reg_decoded_bbox=True, anchor_generator=SQUARES,
                      bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0)),
    'faster_rcnn': two_stage('FasterRCNN', STANDARD, with_mask=False),
    'mask_rcnn': two_stage('MaskRCNN', STANDARD, with_mask=True),
    'cascade_rcnn': two_stage('CascadeRCNN', CASCADE, with_mask=True),
}  # fmt: skip


def build(name: str, **changes: Any) -> Detector:
    """Return a detector with random weights whose scores differ from each other."""
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(MODELS_BY_NAME[name] | changes))
    initialize(model)
    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and path.endswith(LAST_LAYERS):
            nn.init.normal_(module.weight, std=0.1 if path.endswith('_reg') else 0.5)
    return (TwoStageGraph if hasattr(model, 'roi_head') else OneStageGraph)(model).eval()


@pytest.fixture(scope='module', params=list(MODELS_BY_NAME))
def graph(request, tmp_path_factory) -> tuple[Detector, Path]:
    part = build(request.param)
    file = tmp_path_factory.mktemp(request.param) / 'graph.onnx'
    to_onnx(part, (64, 96), file, part.facts)
    return part, file


def named(part: Detector, batch: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    torch.manual_seed(batch)
    return {name: x.numpy() for name, x in zip(part.inputs, part.example(batch, size))}


def check_detections(given: list[np.ndarray], wanted: SampleList) -> None:
    """See that the detections of a graph are mmdet's; close scores may change places."""
    assert len(given[0]) == len(wanted)
    for sample, boxes, scores, labels, *masks in zip(wanted, *map(torch.from_numpy, given)):
        truth, count = sample.pred_instances, len(sample.pred_instances)
        assert boxes.shape == (MOST, 4)
        assert (labels >= 0).sum() == count > MOST // 2
        torch.testing.assert_close(scores[:count], truth.scores, atol=1e-5, rtol=0)
        overlaps, places = (box_iou(truth.bboxes, boxes) * (truth.labels[:, None] == labels)).max(1)
        assert overlaps.min() > 0.99
        torch.testing.assert_close(boxes[places], truth.bboxes, atol=0.02, rtol=0)
        torch.testing.assert_close(scores[places], truth.scores, atol=1e-5, rtol=0)
        if masks:
            pasted = paste(masks[0][places], boxes[places], sample.ori_shape) >= 0.5
            assert truth.masks.float().mean() > 0.003
            assert (pasted != truth.masks).float().mean() < 1e-4


def test_detections_equal_those_of_mmdet(graph):
    part, file = graph
    session = InferenceSession(file, providers=['CPUExecutionProvider'])
    for batch, size in INPUTS:
        inputs = named(part, batch, size)
        assert batch == 1 or len(set(inputs['original_sizes'][:, 0])) == 2
        wanted = predictions(part, *map(torch.from_numpy, inputs.values()))
        check_detections(session.run(None, inputs), wanted)


def test_openvino_finds_the_same(graph):
    openvino = pytest.importorskip('openvino', reason='OpenVINO is an extra')
    part, file = graph
    compiled = openvino.Core().compile_model(file, 'CPU', PRECISE)
    for batch, size in INPUTS:
        inputs = named(part, batch, size)
        wanted = predictions(part, *map(torch.from_numpy, inputs.values()))
        found = compiled(inputs)
        check_detections([found[output] for output in compiled.outputs], wanted)


def test_places_without_a_detection_are_empty(graph, tmp_path):
    part, file = graph
    inputs = named(part, 2, (64, 96))
    best = InferenceSession(file).run(['scores'], inputs)[0]
    model = onnx.load(file)
    (threshold,) = (x for x in model.graph.initializer if x.name == 'score_thr')
    for value in (float(best[0, 2]), 2.0):  # the value itself is below the threshold
        threshold.CopyFrom(onnx.numpy_helper.from_array(np.float32(value), 'score_thr'))
        boxes, scores, labels, *masks = InferenceSession(model.SerializeToString()).run(
            None, inputs
        )
        empty = labels < 0
        assert (empty == (scores == 0)).all()
        assert not boxes[empty].any()
        assert not masks or not masks[0][empty].any()
        if part.model.__class__.__name__ not in ('ATSS', 'FCOS'):  # thresholds before centerness
            np.testing.assert_array_equal(scores[~empty], best[best > value])
        assert value < 1 or empty.all()


def test_the_shapes_of_outputs_are_known(graph):
    part, file = graph
    outputs = {output.name: output.shape for output in InferenceSession(file).get_outputs()}
    shapes = dict(boxes=[MOST, 4], scores=[MOST], labels=[MOST])
    if 'mask_thr_binary' in part.facts:
        assert json.loads(part.facts['mask_thr_binary']) == 0.5
        shapes['masks'] = [MOST, 28, 28]
    assert json.loads(part.facts['score_thr']) == 0
    for name, shape in shapes.items():
        assert outputs[name] == ['batch', *shape]
    assert list(outputs) == list(shapes)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(nms=dict(type='soft_nms', iou_threshold=0.5)), "'soft_nms'"),
        (dict(max_per_img=-1), 'max_per_img=-1'),
        (dict(nms_pre=-1), 'set nms_pre=1000'),
    ],
)
def test_other_postprocessing_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        build('retinanet', test_cfg=TEST_CFG | changes)


def test_class_agnostic_nms():
    nms = dict(NMS, class_agnostic=True)
    part = build('fsaf', test_cfg=TEST_CFG | dict(nms=nms))
    inputs = part.example(2, (128, 192))
    with torch.no_grad():
        check_detections([x.numpy() for x in part(*inputs)], predictions(part, *inputs))
