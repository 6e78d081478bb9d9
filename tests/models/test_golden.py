"""Weights drawn by a rule, converted, give the answers of both public implementations."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch.nn.attention import SDPBackend, sdpa_kernel

from dsnet_mm.models import DSNet
from dsnet_mm.models.published import PublishedDSNet
from dsnet_mm.weights.address import get_weights
from helpers.golden import (
    ONE_BLOCK,
    arch_of,
    image,
    paddle_arrays,
    paddle_bytes,
    published_shapes,
    tensor_by_name,
)
from helpers.paths import RECORDED, SHARED

TOLERANCE = 1e-5  # relative to the largest value, in float32
DEPTHS = {'d1111': ONE_BLOCK, 'tiny': (2, 2, 4, 1)}
MODELS = {
    'fused': (DSNet, SDPBackend.FLASH_ATTENTION),
    'math': (DSNet, SDPBackend.MATH),
    'published': (PublishedDSNet, SDPBackend.MATH),
}


def weights_by_rule(name):
    """Return the weights of a public model by name, drawn by the rule of the answers."""
    shapes = published_shapes(DEPTHS[name], num_classes=1000)
    return {key: tensor_by_name(key, shape) for key, shape in shapes.items()}


def write_source(name, suffix, folder):
    """Write weights drawn by the rule in the file format of a public implementation."""
    source = folder / f'source{suffix}'
    if suffix == '.pth':
        torch.save({'model': weights_by_rule(name), 'epoch': 299}, source)
    else:
        source.write_bytes(paddle_bytes(paddle_arrays(weights_by_rule(name))))
    return source


@pytest.fixture(
    scope='module',
    params=[('d1111', '.pth'), ('d1111', '.pdparams'), ('tiny', '.pth')],
    ids=''.join,
)
def converted(request, tmp_path_factory):
    """The name of the answers and a converted checkpoint."""
    name, suffix = request.param
    folder = tmp_path_factory.mktemp('golden')
    get_weights(source=write_source(name, suffix, folder), out=folder / 'converted.pth')
    return name, folder / 'converted.pth'


def build_classifier(backbone_type, depths):
    """Build mmpretrain's classifier around a backbone."""
    classifier = CLASSIFIERS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='DSNet', arch=arch_of(depths)),
            neck=dict(type='NormGlobalAveragePooling', in_channels=512),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=512),
        )
    )
    classifier.backbone = backbone_type(arch_of(depths))
    return classifier.eval()


def assert_close(value, answer, name, tolerance=TOLERANCE):
    largest = np.abs(answer).max()
    fault = np.abs(value.detach().numpy() - answer).max() / largest
    assert value.shape == answer.shape
    assert fault < tolerance, f'{name} is off by {fault:.1e} of the largest value'


@pytest.mark.parametrize('model', MODELS)
def test_stages_logits_and_gradient(converted, model):
    name, checkpoint = converted
    backbone_type, attention = MODELS[model]
    classifier = build_classifier(backbone_type, DEPTHS[name])
    load_checkpoint(classifier, str(checkpoint), map_location='cpu', strict=True)
    answers = np.load(RECORDED / f'{name}_128x160.npz')
    x = image().requires_grad_()
    with sdpa_kernel(attention):
        stages = classifier.backbone(x)
        logits = classifier.head(classifier.neck(stages))
        loss = logits.square().mean()
        loss.backward()
    for i, stage in enumerate(stages, 1):
        assert_close(stage, answers[f'stage{i}'], f'stage {i}')
    assert_close(logits, answers['logits'], 'logits')
    assert_close(loss, answers['loss'], 'loss')
    assert_close(x.grad, answers['input_grad'], 'gradient of the input')


@pytest.mark.parametrize(
    ('dtype', 'cast', 'tolerance'),
    [
        (torch.bfloat16, 'whole', 3e-2),
        (torch.bfloat16, 'autocast', 3e-2),
        (torch.float16, 'whole', 3e-3),
        (torch.float16, 'autocast', 3e-3),
    ],
)
def test_half_precision(dtype, cast, tolerance, tmp_path):
    get_weights(source=write_source('d1111', '.pth', tmp_path), out=tmp_path / 'converted.pth')
    backbone = DSNet(arch_of(ONE_BLOCK)).eval()
    load_checkpoint(backbone, str(tmp_path / 'converted.pth'), revise_keys=[('^backbone.', '')])
    answers = np.load(RECORDED / 'd1111_128x160.npz')
    x = image()
    if cast == 'whole':
        backbone, x = backbone.to(dtype), x.to(dtype)
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=cast == 'autocast'):
        stages = backbone(x)
    for i, stage in enumerate(stages, 1):
        assert_close(stage.float(), answers[f'stage{i}'], f'stage {i}', tolerance)


def test_names_and_shapes_are_those_of_the_published_tiny_model():
    text = (RECORDED / 'tiny_reference_keys.json').read_text(encoding='utf-8')
    expected = {name: tuple(shape) for name, shape in json.loads(text).items()}
    assert published_shapes((2, 2, 4, 1), num_classes=1000) == expected


@pytest.mark.shared
@pytest.mark.parametrize('suffix', ['.pth', '.pdparams'])
def test_files_of_the_public_implementations_convert_to_the_weights_of_the_rule(suffix, tmp_path):
    get_weights(source=SHARED / 'golden' / f'd1111_ref{suffix}', out=tmp_path / 'theirs.pth')
    get_weights(source=write_source('d1111', suffix, tmp_path), out=tmp_path / 'ours.pth')
    theirs, ours = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True)['state_dict']
        for name in ('theirs', 'ours')
    )
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(tensor, ours[name])
