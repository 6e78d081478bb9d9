"""GLNet and its blocks: shapes, options, gradients, errors, export of free sizes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn
from torch.testing import assert_close

from dsnet_mm.analysis.macs import count_macs
from dsnet_mm.errors import ConfigError
from dsnet_mm.models import DSFPN, GLMixBlock, GLNet
from dsnet_mm.models.glmix_block import AttentionBlock, to_unit_length
from dsnet_mm.models.ops import pool_windows, window_matrix
from dsnet_mm.models.published import as_published
from helpers.detectors import TINY_BACKBONES

SMALL = TINY_BACKBONES['glnet']
ARCHS = {
    'hybrid': SMALL,
    'hybrid, LayerScale': dict(SMALL, layer_scale=0.5),
    'swin': dict(SMALL, layout='swin'),
    'swin, learned slots': dict(SMALL, layout='swin', learned_slots=True),
}


def make(arch: dict = SMALL, **kwargs) -> GLNet:
    model = GLNet(deepcopy(arch), **{'norm_eval': False, 'drop_path_rate': 0.0, **kwargs})
    model.init_weights()
    return model


@pytest.mark.parametrize(
    ('arch', 'parameters', 'macs', 'published_macs'),
    [
        ('stl', 29_526_250, 4.43, 4.35),
        ('stl_paramslot', 29_710_570, 4.43, 4.35),
        ('4g', 26_487_569, 4.59, 4.48),
        ('9g', 59_240_081, 9.75, 9.59),
        ('16g', 105_028_113, 16.82, 16.60),
    ],
)
def test_parameters_and_macs(arch, parameters, macs, published_macs):
    """The fused clustering computes the similarities twice, the public code once."""
    with torch.device('meta'):
        model = GLNet(arch).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    image = torch.empty(1, 3, 224, 224, device='meta')
    assert count_macs(model, image)[0] / 1e9 == pytest.approx(macs, abs=0.005)
    assert count_macs(as_published(model), image)[0] / 1e9 == pytest.approx(
        published_macs, abs=0.005
    )


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (5, 3), (31, 33), (64, 64), (100, 130)])
@pytest.mark.parametrize('arch', ARCHS.values(), ids=ARCHS)
def test_any_image_size(arch, size):
    outs = make(arch).eval()(torch.rand(2, 3, *size))
    for i, out in enumerate(outs):
        stride = 4 * 2**i
        if arch['layout'] == 'swin':
            wanted = [max(1, side // stride) for side in size]
        else:
            wanted = [-(-side // stride) for side in size]
        assert list(out.shape) == [2, arch['embed_dims'][i], *wanted]
        assert out.isfinite().all()
        assert out.is_contiguous()


@pytest.mark.parametrize('arch', ARCHS.values(), ids=ARCHS)
def test_every_parameter_gets_a_gradient(arch):
    model = make(arch)
    sum(out.square().mean() for out in model(torch.rand(2, 3, 72, 104))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize('arch', ARCHS.values(), ids=ARCHS)
def test_fused_equals_published(arch):
    model = make(arch).double().eval()
    images = torch.rand(2, 3, 72, 104, dtype=torch.float64)
    outs = model(images)
    for ours, theirs in zip(outs, as_published(model)(images), strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('with_cp', ['mlp', True])
def test_recomputation_changes_nothing(with_cp):
    results = []
    plain = make(drop_path_rate=0.5, with_cp=False)
    images = torch.rand(2, 3, 64, 64)
    for option in (False, with_cp):
        model = make(drop_path_rate=0.5, with_cp=option)
        model.load_state_dict(plain.state_dict())
        torch.manual_seed(1)
        outs = model(images)
        sum(out.square().mean() for out in outs).backward()
        results.append([*outs, *(p.grad for p in model.parameters()), *model.buffers()])
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages(frozen_stages):
    model = make(frozen_stages=frozen_stages, out_norm_cfg=dict(type='LN')).train()
    frozen = ['downsample_layers.0.'] if frozen_stages == 0 else []
    for i in range(frozen_stages):
        frozen += [f'downsample_layers.{i}.', f'stages.{i}.', f'out_norms.{i}.']
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(frozen)), name
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training != f'{name}.'.startswith(tuple(frozen)), name


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval(norm_eval):
    model = make(norm_eval=norm_eval)
    before = deepcopy(dict(model.named_buffers()))
    model.train()(torch.rand(2, 3, 64, 64))
    changed = any(not torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert changed != norm_eval


def test_out_indices_build_no_more_than_they_need():
    model = make(out_indices=(1, 2), out_norm_cfg=dict(type='LN'))
    assert model.out_channels == (32, 64)
    outs = model(torch.rand(2, 3, 64, 64))
    assert [out.shape[1:] for out in outs] == [(32, 8, 8), (64, 4, 4)]
    assert len(model.stages) == len(model.downsample_layers) == 3
    for out in outs:
        assert_close(out.mean(1), torch.zeros_like(out[:, 0]), atol=1e-5, rtol=0)


def test_initial_values():
    """As the public code: convolutions as PyTorch, linear layers from a truncated normal."""
    torch.manual_seed(0)
    model = make(dict(GLNet.arch_zoo['stl_paramslot'], depths=(1, 1, 1, 1), layer_scale=1e-4))
    block, plain = model.stages[2].blocks[0], model.stages[3].blocks[0]
    assert block.slot_scale.item() == pytest.approx(384**-0.5)
    assert block.init_slots.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.ls1.gamma.unique().tolist() == pytest.approx([1e-4])
    assert block.relation_mha.out_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert plain.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    bound = (6 / (384 + 3 * 384)) ** 0.5  # Xavier
    assert block.relation_mha.in_proj_weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert block.mlp[0].weight.abs().max().item() == pytest.approx(384**-0.5, rel=0.01)


def test_kinds_of_blocks():
    def kinds(arch):
        with torch.device('meta'):
            stages = GLNet(arch).stages
        return [[type(block) for block in stage.blocks] for stage in stages]

    mix, attention = GLMixBlock, AttentionBlock
    assert kinds('stl') == [[mix] * 2, [mix] * 2, [mix] * 6, [attention] * 2]
    assert kinds('4g') == [[mix] * 4, [mix] * 4, [mix, attention] * 9, [attention] * 4]


@pytest.mark.parametrize('side', [1, 5, 8, 9, 31, 64])
def test_pooling_in_a_graph_equals_adaptive_pooling(side):
    x = torch.rand(2, 3, side, 2 * side + 1, dtype=torch.float64)
    rows, columns = window_matrix(side, 8, x), window_matrix(2 * side + 1, 8, x)
    assert_close(rows @ x @ columns.t(), pool_windows(x, 8))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_a_token_of_zeros_remains(dtype):
    tokens = torch.zeros(1, 2, 4, dtype=dtype)
    tokens[0, 0] = 3
    assert_close(to_unit_length(tokens), tokens / 6)


def test_registered_for_mmdet_and_mmpretrain():
    assert MODELS.get('GLNet') is ROOT_MODELS.get('GLNet') is GLNet


def test_ds_fpn_behind_it():
    model = make()
    neck = DSFPN(list(model.out_channels), 64, num_outs=5)
    sum(out.mean() for out in neck(model(torch.rand(1, 3, 70, 90)))).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(arch='5g'), "arch '5g' is unknown"),
        (dict(arch=dict(depths=(1,))), 'give layout, embed_dims, depths'),
        (dict(arch=dict(SMALL, layout='vit')), "layout='vit' is unknown"),
        (dict(arch=dict(SMALL, embed_dims=(16, 32, 64, 64))), 'a multiple of 32'),
        (dict(arch=dict(SMALL, embed_dims=(32, 64))), 'one entry per stage'),
        (dict(out_indices=(3, 1)), 'must be ascending'),
        (dict(frozen_stages=5), 'frozen_stages=5'),
        (dict(with_cp='all'), "with_cp='all' is unknown"),
        (dict(depth=50), 'GLNet has no argument depth; .*_delete_=True'),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ConfigError, match=words):
        GLNet(**{'arch': SMALL, **kwargs})
