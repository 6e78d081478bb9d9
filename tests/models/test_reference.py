"""The models against the published formulation: outputs, gradients, running statistics."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

from dsnet_mm.models import DSFPN, DSBlock, DSNet
from dsnet_mm.models.published import PublishedDSBlock, PublishedDSNet, as_published

TINY_ARCH = dict(embed_dims=(8, 16, 24, 32), depths=(1, 2, 1, 1), num_heads=(1, 2, 3, 4))


def randomize(module):
    """Give every parameter and statistic a value that matters, in double precision."""
    generator = torch.Generator().manual_seed(0)
    module.double()
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        tensor.normal_(generator=generator)
        if name.endswith('running_var'):
            tensor.square_().add_(0.5)
        elif tensor.dim() > 1:
            tensor.mul_(0.7 / tensor[0].numel() ** 0.5)
    return module


def images(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def evaluate(module, inputs):
    """Return outputs, gradients of inputs and parameters, and what the norms remember."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    outs = module(leaves[0] if len(leaves) == 1 else leaves)
    outs = (outs,) if isinstance(outs, torch.Tensor) else outs
    sum((out * images(*out.shape)).sum() for out in outs).backward()
    results = {f'output {i}': out for i, out in enumerate(outs)}
    results.update({f'gradient of input {i}': leaf.grad for i, leaf in enumerate(leaves)})
    results.update({f'gradient of {name}': p.grad for name, p in module.named_parameters()})
    results.update(module.named_buffers())
    return results


def assert_same_function(model, published, inputs):
    """Compare everything that :func:`evaluate` returns, relative to the largest value."""
    results, expected = evaluate(model, inputs), evaluate(published, inputs)
    assert results.keys() == expected.keys()
    for name, tensor in expected.items():
        assert results[name] is not None, f'{name} is missing'
        scale = tensor.abs().max().item()
        assert_close(
            results[name], tensor, rtol=0, atol=1e-9 * scale, msg=lambda m, n=name: f'{n}: {m}'
        )


BLOCKS = {
    'published': dict(),
    'no alignment': dict(align=False),
    'local only': dict(global_ratio=0.0),
    'a quarter global': dict(global_ratio=0.25),
    'three quarters global': dict(global_ratio=0.75),
    'global only': dict(global_ratio=1.0),
    'no mlp': dict(mlp_ratio=0),
    'one head': dict(num_heads=1),
    'four heads': dict(num_heads=4),
    'grid of full size': dict(grid_stride=1),
    'coarse grid': dict(grid_stride=8),
    'limited grid': dict(grid_stride=1, max_grid_cells=6),
    'group norm': dict(norm_cfg=dict(type='GN', num_groups=4)),
}


@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize('size', [(1, 1), (7, 5), (13, 18)], ids=str)
@pytest.mark.parametrize('options', BLOCKS.values(), ids=BLOCKS.keys())
def test_block(options, size, training):
    block = randomize(DSBlock(32, **dict(dict(num_heads=2, grid_stride=2), **options)))
    block.train(training)
    published = as_published(deepcopy(block))
    assert type(published) is PublishedDSBlock
    assert_same_function(block, published, [images(2, 32, *size)])


@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize('align', [True, False])
@pytest.mark.parametrize('size', [(33, 50), (3, 1)], ids=str)
def test_backbone(size, align, training):
    model = randomize(DSNet(dict(TINY_ARCH, mlp_ratio=2), align, drop_path_rate=0, norm_eval=False))
    published = PublishedDSNet(
        dict(TINY_ARCH, mlp_ratio=2), align, drop_path_rate=0, norm_eval=False
    ).double()
    published.load_state_dict(model.state_dict())
    model.train(training)
    published.train(training)
    assert_same_function(model, published, [images(2, 3, *size)])


def test_backbone_returns_the_chosen_stages():
    arch = dict(TINY_ARCH, mlp_ratio=0)
    model = randomize(DSNet(arch, out_indices=(0, 2))).eval()
    published = as_published(deepcopy(model))
    assert type(published) is PublishedDSNet
    x = images(1, 3, 40, 24)
    assert_close(model(x), published(x), rtol=1e-8, atol=1e-9)


def test_neck():
    groups = dict(type='GN', num_groups=4)
    neck = DSFPN([8, 16], 32, 3, in_strides=(4, 8), grid_stride=8, block_norm_cfg=groups)
    neck = randomize(neck)
    published = as_published(deepcopy(neck))
    assert sum(type(m) is PublishedDSBlock for m in published.modules()) == 2
    assert_same_function(neck, published, [images(2, 8, 13, 9), images(2, 16, 7, 5)])


def test_published_keeps_the_names_and_the_layout_of_public_code():
    model = PublishedDSNet(dict(TINY_ARCH, mlp_ratio=2)).eval()
    assert model.state_dict().keys() == DSNet(dict(TINY_ARCH, mlp_ratio=2)).state_dict().keys()
    outs = model(torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last))
    assert all(out.is_contiguous() for out in outs)


def test_published_drops_attention_weights_in_training_only():
    model = PublishedDSNet(dict(TINY_ARCH, mlp_ratio=2), attn_drop_rate=0.5, drop_path_rate=0)
    x = torch.rand(1, 3, 64, 64)
    torch.manual_seed(0)
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])
