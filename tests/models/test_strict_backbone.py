"""A backbone loads a pretrained checkpoint completely, or reports what does not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn

from dsnet_mm.errors import UserError
from dsnet_mm.models import DSNet, NormGlobalAveragePooling

ARCH = dict(embed_dims=(8, 16, 24, 32), depths=(1, 2, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=1)


def make(checkpoint=None, prefix=None, **options):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint)) if checkpoint else None
    if prefix:
        init_cfg['prefix'] = prefix
    return DSNet(**{'arch': ARCH, 'init_cfg': init_cfg, **options})


def randomized():
    state_dict = make().state_dict()
    return {n: torch.rand(x.shape) if x.is_floating_point() else x for n, x in state_dict.items()}


def as_classifier(weights):
    other = {'neck.norm.weight': torch.ones(32), 'head.fc.weight': torch.ones(5, 32)}
    return {**{f'backbone.{name}': x for name, x in weights.items()}, **other}


def save(folder, weights):
    path = folder / 'weights.pth'
    torch.save({'state_dict': weights, 'meta': {}}, path)
    return path


def assert_same(model, weights):
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize('layout', [as_classifier, dict], ids=['classifier', 'backbone'])
@pytest.mark.parametrize('options', [{}, dict(out_indices=(0, 2)), dict(frozen_stages=2)])
def test_starts_from_either_layout(tmp_path, layout, options):
    weights = randomized()
    model = make(save(tmp_path, layout(weights)), **options)
    model.init_weights()
    assert_same(model, weights)


def test_prefix_takes_the_backbone_of_a_classifier(tmp_path):
    weights = randomized()
    model = make(save(tmp_path, as_classifier(weights)), prefix='backbone.')
    model.init_weights()
    assert_same(model, weights)


def test_loads_strictly_by_the_common_functions(tmp_path):
    weights = randomized()
    path = save(tmp_path, as_classifier(weights))
    model = make()
    load_checkpoint(model, str(path), map_location='cpu', strict=True)
    assert_same(model, weights)
    model = make()
    model.load_state_dict(torch.load(path)['state_dict'])
    assert_same(model, weights)


def test_later_loading_is_as_strict_as_asked_for(tmp_path):
    model = make(save(tmp_path, randomized()))
    model.init_weights()
    assert model.load_state_dict({}, strict=False).missing_keys
    with pytest.raises(RuntimeError, match='Missing key'):
        model.load_state_dict({})


def test_a_whole_model_is_loaded_as_ever(tmp_path):
    weights = as_classifier(randomized())
    model = nn.ModuleDict(
        dict(backbone=make(), neck=NormGlobalAveragePooling(32), head=nn.Module())
    )
    model['head'].fc = nn.Linear(32, 5)
    load_checkpoint(model, str(save(tmp_path, weights)), map_location='cpu')
    assert_same(model['backbone'], {n[9:]: x for n, x in weights.items() if n[0] == 'b'})
    assert torch.equal(model['head'].fc.weight, weights['head.fc.weight'])


def renamed(weights):
    weights['stages.0.patch_embed.proj.odd'] = weights.pop('stages.0.patch_embed.proj.bias')
    return ['missing: stages.0.patch_embed.proj.bias', 'left over: stages.0.patch_embed.proj.odd']


def dropped(weights):
    del weights['stages.3.blocks.0.norm1.running_mean']
    return ['missing: stages.3.blocks.0.norm1.running_mean']


def transposed(weights):
    name = 'stages.1.blocks.1.global_prop.qkv.weight'
    weights[name] = weights[name].t()
    return [f'of another shape: {name} (8, 24) instead of (24, 8)']


@pytest.mark.parametrize('fault', [renamed, dropped, transposed])
@pytest.mark.parametrize('prefix', [None, 'backbone.'])
def test_a_tensor_that_does_not_fit_is_named(tmp_path, fault, prefix):
    weights = randomized()
    said = fault(weights)
    path = save(tmp_path, as_classifier(weights))
    with pytest.raises(UserError) as error:
        make(path, prefix).init_weights()
    assert all(words in str(error.value) for words in [*said, str(path)])


LN = dict(out_norm_cfg=dict(type='LN'))


@pytest.mark.parametrize('layout', [as_classifier, dict], ids=['classifier', 'backbone'])
@pytest.mark.parametrize('options', [{}, dict(out_indices=(0, 2)), dict(frozen_stages=2)])
def test_weights_without_norms_of_outputs_leave_these_as_built(tmp_path, layout, options):
    weights = randomized()
    model = make(save(tmp_path, layout(weights)), **options, **LN)
    model.init_weights()
    state = model.state_dict()
    norms = {name: state.pop(name) for name in list(state) if name.startswith('out_norms.')}
    assert len(norms) == 2 * len(model.out_indices)
    assert all((x == (1 if name.endswith('weight') else 0)).all() for name, x in norms.items())
    for name, tensor in state.items():
        assert torch.equal(tensor, weights[name]), name
    with pytest.raises(RuntimeError, match='Missing key'):
        make(**LN).load_state_dict(weights)


@pytest.mark.parametrize('options', [{}, dict(out_indices=(0, 2))])
def test_norms_of_outputs_are_loaded(tmp_path, options):
    weights = {name: torch.rand_like(x.float()) for name, x in make(**LN).state_dict().items()}
    model = make(save(tmp_path, weights), **options, **LN)
    model.init_weights()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name].to(tensor.dtype)), name


@pytest.mark.parametrize(
    ('saved', 'options', 'words'),
    [
        (LN, {}, 'left over: out_norms.0.weight.*check arch, align and out_norm_cfg'),
        (dict(LN, out_indices=(0, 1, 2)), LN, 'missing: out_norms.3.weight'),
        (LN, dict(out_norm_cfg=dict(type='BN')), 'missing: out_norms.0.running_mean'),
    ],
)
def test_other_norms_of_outputs_than_those_of_the_checkpoint(tmp_path, saved, options, words):
    weights = make().state_dict() | make(**saved).state_dict()
    with pytest.raises(UserError, match=words):
        make(save(tmp_path, weights), **options).init_weights()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(align=False), 'left over: stages.0.blocks.0.alignment'),
        (dict(arch='tiny'), 'of another shape'),
        (dict(arch=dict(ARCH, depths=(1, 1, 1, 1))), 'left over: stages.1.blocks.1'),
        (dict(arch=dict(ARCH, depths=(1, 3, 1, 1))), 'missing: stages.1.blocks.2'),
    ],
)
def test_another_model_than_that_of_the_checkpoint(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        make(save(tmp_path, randomized()), **options).init_weights()


def test_a_detectors_initialisation_is_stopped_too(tmp_path):
    weights = randomized()
    dropped(weights)

    class Detector(BaseModule):
        def __init__(self):
            super().__init__()
            self.backbone = make(save(tmp_path, weights))

    with pytest.raises(UserError, match='missing'):
        Detector().init_weights()


def test_a_missing_checkpoint_is_reported_with_the_command(tmp_path):
    path = tmp_path / 'none.pth'
    with pytest.raises(UserError, match='does not exist') as error:
        make(path).init_weights()
    assert str(path) in str(error.value)
    assert 'dsnet-mm weights tiny|small|base' in str(error.value)


def test_other_faults_of_a_checkpoint_are_one_sentence(tmp_path):
    path = save(tmp_path, randomized())
    with pytest.raises(UserError, match='cannot be loaded') as error:
        make(path, prefix='encoder.').init_weights()
    assert str(path) in str(error.value)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match='cannot be loaded') as error:
        make(path).init_weights()
    assert '\n' not in str(error.value)


def test_other_initialisations_are_not_checked():
    model = make(init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    model.init_weights()
    model = copy.deepcopy(model)
    model.load_state_dict({}, strict=False)


def test_both_registries_know_the_backbone():
    assert MODELS.get('DSNet') is DSNet
    assert ROOT_MODELS.get('NormGlobalAveragePooling') is NormGlobalAveragePooling
    assert CLASSIFIERS.get('DSNet') is DSNet
    assert CLASSIFIERS.get('NormGlobalAveragePooling') is NormGlobalAveragePooling


def test_neck_of_the_classifier():
    neck = NormGlobalAveragePooling(6).eval()
    neck.norm.running_mean.uniform_(-1, 1)
    neck.norm.running_var.uniform_(0.5, 2)
    maps = (torch.rand(2, 3, 4, 4), torch.rand(2, 6, 3, 5))
    (out,) = neck(maps)
    assert out.shape == (2, 6)
    torch.testing.assert_close(out, neck.norm(maps[1]).flatten(2).mean(2))
