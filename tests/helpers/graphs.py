"""Write small ONNX files that `dsnet-mm` takes for exported detectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from helpers.datasets import CLASSES

BOXES = [[10, 5, 40, 30], [20.5, 8, 55, 38], [1, 2, 9, 12], [0, 0, 0, 0]]
SCORES = [0.9, 0.6, 0.2, 0]
LABELS = [2, 0, 1, -1]
PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
SETTINGS = dict(
    mean=[120, 110, 100], std=[60, 55, 50], bgr_to_rgb=True, pad_size_divisor=32, scale=[96, 96],
    keep_ratio=True,
)  # fmt: skip
FACTS = dict(
    format='detections',
    score_thr='0.05',
    classes=json.dumps(CLASSES),
    palette=json.dumps(PALETTE),
    preprocessing=json.dumps(SETTINGS),
)


def write_graph(path: Path, facts: Mapping[str, str] = FACTS, with_masks: bool = False) -> Path:
    """Write a detector that finds :data:`BOXES` on every image, with half of each box as its mask.

    It finds nothing in places with score 0.
    """
    onnx = pytest.importorskip('onnx', reason='writes a graph')
    make = onnx.helper
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    outputs = dict(
        boxes=np.float32([BOXES]), scores=np.float32([SCORES]), labels=np.int64([LABELS])
    )
    if with_masks:
        outputs['masks'] = np.zeros((1, len(BOXES), 28, 28), np.float32)
        outputs['masks'][..., :14] = 1
        facts = {**facts, 'mask_thr_binary': '0.5'}
    graph = make.make_graph(
        [
            make.make_node('Constant', [], [name], value=onnx.numpy_helper.from_array(value))
            for name, value in outputs.items()
        ],
        'detector',
        [
            make.make_tensor_value_info('images', float32, ['batch', 3, 'height', 'width']),
            make.make_tensor_value_info('resized_sizes', int64, ['batch', 2]),
            make.make_tensor_value_info('original_sizes', int64, ['batch', 2]),
        ],
        [
            make.make_tensor_value_info(
                name, int64 if name == 'labels' else float32, [None] * value.ndim
            )
            for name, value in outputs.items()
        ],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid('', 17)], ir_version=8)
    make.set_model_props(model, dict(facts))
    onnx.save(model, str(path))
    return path
