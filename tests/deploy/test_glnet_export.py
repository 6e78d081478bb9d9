"""Graphs with GLNet accept any image size, though its pooling windows depend on the size."""

from __future__ import annotations

import pytest
import torch

from dsnet_mm.deploy.checking import compare
from dsnet_mm.deploy.loading import load_part
from dsnet_mm.deploy.onnx_file import to_onnx
from helpers.detectors import TINY_BACKBONES
from helpers.paths import ROOT

pytest.importorskip('onnxruntime', reason='the extra `export` is not installed')
CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{arch!r}), init_cfg=None),
    neck=dict(in_channels=[32, 64, 64], out_channels=32),
    bbox_head=dict(num_classes=4, in_channels=32, feat_channels=32, stacked_convs=1),
)
"""
SIZES = [(97, 161), (211, 130), (64, 64), (33, 31)]


@pytest.mark.parametrize('layout', ['hybrid', 'swin'])
@pytest.mark.parametrize(('what', 'raw'), [('backbone', False), ('detector', True)])
def test_any_image_size(what, raw, layout, tmp_path):
    base = str(ROOT / 'configs' / 'retinanet_glnet_4g_fpn_1x_coco.py')
    arch = dict(TINY_BACKBONES['glnet'], layout=layout)
    (tmp_path / 'config.py').write_text(CONFIG.format(base=base, arch=arch))
    torch.manual_seed(0)
    part, facts = load_part(str(tmp_path / 'config.py'), None, what, raw)
    to_onnx(part, (96, 128), tmp_path / 'graph.onnx', facts)
    agreements = dict(compare(part, tmp_path / 'graph.onnx', SIZES))
    assert list(agreements) == SIZES
    assert all(agreement.is_close for agreement in agreements.values()), agreements
