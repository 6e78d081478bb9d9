"""The published weights, through the converter, give the answers of the public implementations."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from golden import GOLDEN, ONE_BLOCK, arch_of, image, published_shapes, tensor_by_name
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch.nn.attention import SDPBackend, sdpa_kernel

from dsnet_mm.analysis.published import PublishedDSNet
from dsnet_mm.models import DSNet
from dsnet_mm.weights.convert import convert

TOLERANCE = 1e-5  # relative to the largest value, in float32
DEPTHS = {'d1111': ONE_BLOCK, 'tiny': (2, 2, 4, 1)}
MODELS = {
    'fused': (DSNet, SDPBackend.FLASH_ATTENTION),
    'math': (DSNet, SDPBackend.MATH),
    'published': (PublishedDSNet, SDPBackend.MATH),
}

pytestmark = pytest.mark.shared


def reference_shapes():
    return json.loads((GOLDEN / 'tiny_reference_keys.json').read_text())


@pytest.fixture(scope='module', params=['d1111_ref.pth', 'd1111_ref.pdparams', 'tiny by recipe'])
def converted(request, tmp_path_factory):
    """The name of the answers and a converted checkpoint."""
    folder = tmp_path_factory.mktemp('golden')
    source = GOLDEN / request.param
    if request.param.startswith('tiny'):
        source = folder / 'source.pth'
        tensors = {name: tensor_by_name(name, tuple(x)) for name, x in reference_shapes().items()}
        torch.save({'model': tensors}, source)
    convert(source, folder / 'converted.pth')
    return request.param[:5].split()[0], folder / 'converted.pth'


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
    answers = np.load(GOLDEN / f'{name}_128x160.npz')
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
    convert(GOLDEN / 'd1111_ref.pth', tmp_path / 'converted.pth')
    backbone = DSNet(arch_of(ONE_BLOCK)).eval()
    load_checkpoint(backbone, str(tmp_path / 'converted.pth'), revise_keys=[('^backbone.', '')])
    answers = np.load(GOLDEN / 'd1111_128x160.npz')
    x = image()
    if cast == 'whole':
        backbone, x = backbone.to(dtype), x.to(dtype)
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=cast == 'autocast'):
        stages = backbone(x)
    for i, stage in enumerate(stages, 1):
        assert_close(stage.float(), answers[f'stage{i}'], f'stage {i}', tolerance)


def test_names_and_shapes_are_those_of_the_published_tiny_model():
    expected = {name: tuple(shape) for name, shape in reference_shapes().items()}
    assert published_shapes((2, 2, 4, 1), num_classes=1000) == expected


def test_recipe_makes_the_reference_weights():
    weights = torch.load(GOLDEN / 'd1111_ref.pth', weights_only=True)['model']
    make = partial(published_shapes, ONE_BLOCK, num_classes=1000)
    assert {name: tuple(x.shape) for name, x in weights.items()} == make()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, tensor_by_name(name, tuple(tensor.shape)))
