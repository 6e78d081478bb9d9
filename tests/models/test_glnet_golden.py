"""GLNet with weights drawn by a rule gives the answers of the public code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dsnet_mm.models.glmix_reference import glmix_steps
from dsnet_mm.models.published import as_published
from helpers.glnet import ARCHS, D1121, classifier, published
from helpers.golden import image
from helpers.paths import RECORDED, SHARED

TOLERANCE = 5e-6  # relative to the largest value, in float32
FOLDER = SHARED / 'golden' / 'glnet'


def assert_close(value: torch.Tensor, answer: np.ndarray, name: str) -> None:
    assert value.shape == answer.shape
    fault = np.abs(value.detach().numpy() - answer).max() / np.abs(answer).max()
    assert fault < TOLERANCE, f'{name} is off by {fault:.1e} of the largest value'


def answers_of(model: torch.nn.ModuleDict) -> dict[str, torch.Tensor]:
    """Return all that the public code was asked for."""
    x = image().requires_grad_()
    stages = model['backbone'](x)
    logits = model['head']['fc'](model['neck'](stages)[0])
    loss = logits.square().mean()
    loss.backward()
    named = {f'stage{i}': stage for i, stage in enumerate(stages, 1)}
    return dict(named, logits=logits, loss=loss, input_grad=x.grad)


@pytest.mark.parametrize('formulation', ['fused', 'published'])
@pytest.mark.parametrize('name', ARCHS)
def test_last_stage_and_logits(name, formulation):
    model = classifier(ARCHS[name], published(ARCHS[name]))
    if formulation == 'published':
        as_published(model)
    answers = np.load(RECORDED / 'glnet' / f'{name}_128x160.npz')
    given = answers_of(model)
    assert set(answers) == {'stage4', 'logits', 'loss'}
    for key, answer in answers.items():
        assert_close(given[key], answer, key)


@pytest.mark.shared
@pytest.mark.parametrize('name', ARCHS)
def test_all_stages_and_gradient(name):
    given = answers_of(classifier(ARCHS[name], published(ARCHS[name])))
    answers = np.load(FOLDER / f'{name}_128x160.npz')
    assert set(answers) == set(given)
    for key, answer in answers.items():
        assert_close(given[key], answer, key)


@pytest.mark.shared
@pytest.mark.parametrize('name', ARCHS)
def test_names_and_shapes(name):
    keys = json.loads((FOLDER / f'{name}_reference_keys.json').read_text())
    own = {key: list(tensor.shape) for key, tensor in published(ARCHS[name]).items()}
    assert own == keys


@pytest.mark.shared
@pytest.mark.parametrize('size', [(9, 13), (5, 6)])
def test_steps_of_a_block(size):
    block = classifier(D1121, published(D1121))['backbone'].stages[0].blocks[0]
    generator = np.random.Generator(np.random.PCG64(7))
    x = torch.from_numpy(generator.standard_normal((1, 64, *size)).astype(np.float32))
    with torch.no_grad():
        steps = glmix_steps(block, x)
        steps['output'] = block(x)
    del steps['mixed']
    steps['normed'] = steps['normed'].transpose(1, 2).unflatten(2, size)
    answers = np.load(FOLDER / 'd1121_block0_steps.npz')
    height, width = size
    wanted = {key for key in answers if key.endswith(f'_{height}x{width}')}
    assert wanted == {f'{step}_{height}x{width}' for step in steps}
    for step, value in steps.items():
        assert_close(value, answers[f'{step}_{height}x{width}'], step)
