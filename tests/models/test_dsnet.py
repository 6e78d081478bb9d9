"""The backbone and its block: shapes, options, gradients, errors."""

import weakref
from copy import deepcopy
from math import ceil

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.registry import MODELS
from mmengine.analysis import get_model_complexity_info
from mmengine.model import BaseModule
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.testing import assert_close

from dsnet_mm.analysis.macs import count_macs
from dsnet_mm.models import DSFPN, DSBlock, DSNet, mlp
from dsnet_mm.models.norms import set_norms_to_eval
from dsnet_mm.models.published import PublishedDSNet, as_published
from helpers.documents import blocks, read

SMALL_ARCH = dict(embed_dims=(16, 32, 48, 64), depths=(1, 2, 1, 1), num_heads=(1, 2, 3, 4),
                  mlp_ratio=2)  # fmt: skip


def make(**kwargs) -> DSNet:
    model = DSNet(deepcopy(SMALL_ARCH), **{'norm_eval': False, **kwargs})
    model.init_weights()
    return model


def without_gradient(model: nn.Module) -> list[str]:
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (5, 3), (31, 33), (64, 64), (127, 65)])
@pytest.mark.parametrize('align', [True, False])
def test_any_image_size(size, align):
    outs = make(align=align).eval()(torch.rand(2, 3, *size))
    strides_and_channels = zip((4, 8, 16, 32), SMALL_ARCH['embed_dims'], strict=True)
    assert [tuple(out.shape) for out in outs] == [
        (2, c, ceil(size[0] / s), ceil(size[1] / s)) for s, c in strides_and_channels
    ]
    assert all(out.isfinite().all() for out in outs)


def test_published_widths():
    outs = MODELS.build(dict(type='DSNet', arch='small')).eval()(torch.rand(1, 3, 64, 96))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (64, 16, 24), (128, 8, 12), (320, 4, 6), (512, 2, 3)]  # fmt: skip


def test_outputs_are_contiguous():
    """mmcv's RoIAlign reads any other layout wrongly, without an error."""
    for out in make().eval()(torch.rand(2, 3, 64, 96)):
        assert out.is_contiguous()


@pytest.mark.parametrize('ratio', [0, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize('align', [True, False])
def test_every_parameter_gets_a_gradient(ratio, align):
    model = make(global_ratio=ratio, align=align, drop_path_rate=0)
    sum(out.square().mean() for out in model(torch.rand(2, 3, 40, 72))).backward()
    assert without_gradient(model) == []
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # the last layers are read by nothing but the loss; all others feed them
        assert parameter.grad.any(), name
    names = '\n'.join(dict(model.named_parameters()))
    assert ('alignment' in names) == (align and 0 < ratio < 1)
    assert ('local_prop' in names) == (ratio < 1)
    assert ('global_prop' in names) == (ratio > 0)


@pytest.mark.parametrize('out_indices', [(0,), (1, 2), (0, 3), [2]])
def test_out_indices_build_no_more_than_they_need(out_indices):
    model = make(out_indices=out_indices, drop_path_rate=0)
    outs = model(torch.rand(2, 3, 64, 64))
    assert [out.shape[1] for out in outs] == [SMALL_ARCH['embed_dims'][i] for i in out_indices]
    assert [out.shape[1] for out in outs] == list(model.out_channels)
    outs[-1].square().mean().backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages(frozen_stages):
    model = make(frozen_stages=frozen_stages, drop_path_rate=0)
    assert model.train() is model
    out = model(torch.rand(2, 3, 64, 64))
    frozen = [f'stages.{i}.' for i in range(frozen_stages)] or (
        ['stages.0.patch_embed.'] if frozen_stages == 0 else []
    )
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(frozen)), name
    for name, module in model.named_modules():
        if name:
            assert module.training != f'{name}.'.startswith(tuple(frozen)), name
    if frozen_stages < 4:
        out[-1].square().mean().backward()
        assert without_gradient(model) == []


OUT_NORMS = [dict(type='LN'), dict(type='GN', num_groups=8), dict(type='BN'), dict(type='SyncBN')]


@pytest.mark.parametrize('norm', OUT_NORMS, ids=lambda norm: norm['type'])
@pytest.mark.parametrize('model_class', [DSNet, PublishedDSNet])
def test_a_norm_per_output(norm, model_class):
    """They normalize the outputs, and change nothing else."""
    plain = make(drop_path_rate=0)
    model = model_class(SMALL_ARCH, norm_eval=False, out_norm_cfg=norm, drop_path_rate=0)
    assert not any('out_norm' in name for name in plain.state_dict())
    result = model.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split('.')[0] for name in result.missing_keys} == {'out_norms'}
    assert result.unexpected_keys == []
    images = torch.rand(2, 3, 64, 96)
    channels = dict(LN=[1], GN=None).get(norm['type'], [0, 2, 3])
    for before, out in zip(plain(images), model(images), strict=True):
        x = before.reshape(2, 8, -1) if norm['type'] == 'GN' else before
        dims = channels or [2]
        deviation = x.var(dims, correction=0, keepdim=True) + 1e-5
        wanted = (x - x.mean(dims, keepdim=True)) / deviation.sqrt()
        assert_close(out, wanted.reshape(out.shape), rtol=1e-4, atol=1e-4)
        assert out.is_contiguous()


def test_only_outputs_have_norms_and_every_norm_gets_a_gradient():
    model = make(out_norm_cfg=dict(type='LN'), out_indices=(1, 3), drop_path_rate=0)
    assert [n for n, _ in model.named_parameters() if n.startswith('out_norms')] == [
        f'out_norms.{i}.{name}' for i in (1, 3) for name in ('weight', 'bias')
    ]
    sum(out.square().mean() for out in model(torch.rand(2, 3, 64, 64))).backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_norms_of_frozen_stages_are_frozen(frozen_stages):
    model = make(out_norm_cfg=dict(type='BN'), frozen_stages=frozen_stages, norm_eval=True)
    model.train()
    for index, norm in model.out_norms.items():
        trains = int(index) >= frozen_stages
        # without pretrained statistics, norm_eval would make it the identity
        assert norm.training == trains
        assert norm.weight.requires_grad == trains
    assert not model.stages[3].blocks[0].norm1.training


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval(norm_eval):
    model = make(norm_eval=norm_eval)
    before = deepcopy(dict(model.named_buffers()))
    model.train()(torch.rand(2, 3, 64, 64))
    changed = any(not torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert changed != norm_eval
    assert model.stages[0].blocks[0].training


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norms_that_stay_initial_are_told(norm_eval, monkeypatch):
    said = []
    monkeypatch.setattr(
        'dsnet_mm.models.staged_backbone.print_log', lambda text, **_: said.append(text)
    )
    make(norm_eval=norm_eval)
    assert ['set norm_eval=False to train from scratch' in text for text in said] == [
        True
    ] * norm_eval


def test_checkpointing_changes_nothing():
    plain = make(drop_path_rate=0.5, attn_drop_rate=0.3)
    saving = make(drop_path_rate=0.5, attn_drop_rate=0.3, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 64, 64)
    results = []
    for model in (plain, saving):
        torch.manual_seed(1)
        outs = model(images)
        sum(out.square().mean() for out in outs).backward()
        results.append([*outs, *(p.grad for p in model.parameters()), *model.buffers()])
    assert len(results[0]) == len(results[1]) > 100
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize('norm_eval', [True, False])
def test_checkpointing_allows_a_second_backward_pass(norm_eval):
    model = make(with_cp=True, norm_eval=norm_eval).train()
    loss = model(torch.rand(2, 3, 64, 64))[-1].square().mean()
    if norm_eval:
        loss.backward(retain_graph=True)
    loss.backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_large_mlps_are_computed_in_tiles_without_gradients(norm, monkeypatch):
    norm_cfg = dict(type=norm) if norm == 'BN' else dict(type=norm, num_groups=4)
    block = DSBlock(16, num_heads=1, grid_stride=2, norm_cfg=norm_cfg).eval()
    hidden = []
    block.ffn.act.register_forward_pre_hook(lambda act, inputs: hidden.append(inputs[0].numel()))
    x = torch.rand(2, 16, 9, 7)
    whole = block(x).detach()
    monkeypatch.setattr(mlp, 'LARGE_MAP', 1000)
    monkeypatch.setattr(mlp, 'TILE', 2 * 64 * 7 * 4)
    assert_close(block(x).detach(), whole, rtol=0, atol=0)
    assert hidden == [2 * 64 * 63] * 2
    with torch.no_grad():
        tiled = block(x)
    assert hidden[2:] == [2 * 64 * 7 * 4] * 2 + [2 * 64 * 7]
    assert_close(tiled, whole, rtol=1e-5, atol=1e-6)
    assert tiled.is_contiguous(memory_format=torch.channels_last)


def test_norms_stand_before_convolutions_that_they_do_not_follow():
    """``fuse_conv_bn`` goes by the order of registration, and must find nothing to fuse."""
    model = make(out_norm_cfg=dict(type='BN')).eval()
    images = torch.rand(1, 3, 64, 64)
    before = model(images)
    fused = fuse_conv_bn(deepcopy(model))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) == sum(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )
    for ours, theirs in zip(before, fused(images), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_checkpointing_reaches_every_block(monkeypatch):
    calls = []

    def count(function, x, **kwargs):
        calls.append(function)
        return function(x)

    monkeypatch.setattr('dsnet_mm.models.block.checkpoint', count)
    make(with_cp=True)(torch.rand(1, 3, 64, 64))
    blocks = [function for function in calls if isinstance(function.__self__, DSBlock)]
    assert len(blocks) == sum(SMALL_ARCH['depths'])


@pytest.mark.parametrize('norm', [dict(type='BN'), dict(type='GN', num_groups=4)], ids=str)
@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize('with_cp', ['mlp', True])
def test_recomputation_changes_nothing(with_cp, norm_eval, norm):
    block = DSBlock(16, num_heads=1, grid_stride=2, norm_cfg=norm, with_cp=with_cp).train()
    if norm_eval:
        set_norms_to_eval(block)
    plain = DSBlock(16, num_heads=1, grid_stride=2, norm_cfg=norm, with_cp=False)
    plain.load_state_dict(block.state_dict())
    plain.train()
    if norm_eval:
        set_norms_to_eval(plain)
    results = []
    for model in (block, plain):
        x = torch.rand(2, 16, 9, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


NOT_STORED = ['norm1', 'alignment.norm_local', 'norm2', 'ffn.act']
BEHIND = ['in_proj', 'alignment.qkv_local', 'ffn.fc1', 'ffn.fc2']  # what reads their outputs


@pytest.mark.parametrize(
    ('options', 'kept'),
    [
        (dict(), []),
        (dict(norm_cfg=dict(type='GN', num_groups=4)), []),
        (dict(training=True), NOT_STORED[:3]),
        (dict(act_cfg=dict(type='LeakyReLU', inplace=True)), NOT_STORED[3:]),
        (dict(with_cp=False), NOT_STORED),
    ],
    ids=['BN in eval mode', 'GN', 'BN in train mode', 'act in place', 'with_cp=False'],
)
def test_outputs_of_norms_and_of_the_activation_are_not_stored(options, kept):
    options = dict(options)
    training = options.pop('training', False)
    block = DSBlock(16, num_heads=1, grid_stride=2, **options).train()
    if not training:
        set_norms_to_eval(block)
    outputs, convolutions = {}, []

    def watch(name: str, module: nn.Module) -> None:
        def hook(_module, _inputs, out):
            if name in NOT_STORED:
                outputs.setdefault(name, weakref.ref(out))
            else:
                convolutions.append(name)

        module.register_forward_hook(hook)

    for name in (*NOT_STORED, *BEHIND):
        watch(name, block.get_submodule(name))
    y = block(torch.rand(2, 16, 9, 7))
    assert [name for name, out in outputs.items() if out() is not None] == kept
    y.square().sum().backward()
    # the recomputation stops within a convolution, before its product and its hook
    assert convolutions == BEHIND


def test_stochastic_depth_is_linear_over_the_whole_depth():
    model = make(drop_path_rate=0.2)
    rates = [getattr(block.drop_path, 'drop_prob', 0.) for stage in model.stages
             for block in stage.blocks]  # fmt: skip
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_attention_is_dropped_in_training_only():
    model = make(attn_drop_rate=0.5, drop_path_rate=0)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.equal(model(images)[-1], model(images)[-1])
    model.eval()
    assert torch.equal(model(images)[-1], model(images)[-1])


def test_arguments_of_the_caller_stay_as_they_are():
    arch, indices, norm = deepcopy(SMALL_ARCH), [0, 2], dict(type='BN')
    DSNet(arch, out_indices=indices, norm_cfg=norm, out_norm_cfg=norm)
    assert (arch, indices, norm) == (SMALL_ARCH, [0, 2], dict(type='BN'))


def test_initial_weights():
    model = DSNet('tiny')
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.weight, 7)
            nn.init.constant_(module.bias, 7)
    model.init_weights()
    block = model.stages[3].blocks[0]
    assert block.global_prop.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not block.global_prop.qkv.bias.any()
    # PyTorch draws the weights of a convolution uniformly within +-1 / sqrt(fan_in)
    assert block.ffn.fc1.weight.abs().max().item() == pytest.approx(512**-0.5, rel=0.01)
    assert block.pos_embed.weight.abs().max().item() == pytest.approx(1 / 3, rel=0.01)


def test_initial_weights_do_not_depend_on_a_parent():
    class Parent(BaseModule):
        def __init__(self) -> None:
            super().__init__(init_cfg=dict(type='Constant', layer='Conv2d', val=3))
            self.block = DSBlock(16, 1, 2)

    parent = Parent()
    parent.init_weights()
    assert parent.block.in_proj.weight.abs().max() <= 0.25


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(arch='huge'), "arch 'huge' is unknown.*base.*small.*tiny"),
        (dict(arch=dict(depths=(1,))), 'keys.*embed_dims, depths, num_heads, mlp_ratio'),
        (dict(arch={**SMALL_ARCH, 'depths': (1, 1)}), 'one entry per stage'),
        (dict(out_indices=(0, 4)), r'out_indices=\(0, 4\).*within 0 and 3'),
        (dict(out_indices=(-1,)), 'out_indices'),
        (dict(out_indices=(2, 1)), 'ascending'),
        (dict(out_indices=()), 'out_indices'),
        (dict(frozen_stages=5), 'frozen_stages=5'),
        (dict(global_ratio=1.5), 'global_ratio=1.5'),
        (dict(out_norm_cfg='LN'), "out_norm_cfg='LN' builds no norm.*set it to None, dict"),
        (dict(out_norm_cfg=dict(type='GN')), 'no norm of 64 channels.*num_groups=...'),
        (dict(out_norm_cfg=dict(type='GN', num_groups=7)), 'a number that divides the channels'),
        (dict(out_norm_cfg=dict(type='XN')), "out_norm_cfg={'type': 'XN'} builds no norm"),
        (dict(with_cp='mpl'), "with_cp='mpl' is unknown; set it to 'mlp', True or False"),
        (dict(global_ratio=0.3), 'global_ratio=0.3.*64 channels'),
        (dict(arch={**SMALL_ARCH, 'num_heads': (3, 2, 3, 4)}), 'num_heads=3 does not divide the 8'),
    ],
)
def test_bad_arguments_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words) as caught:
        DSNet(**kwargs)
    assert '\n' not in str(caught.value)


# ---- modules that somebody else listens to or changes


def make_neck() -> DSFPN:
    norm = dict(type='GN', num_groups=4)
    more = dict(add_extra_convs='on_output', block_norm_cfg=norm)
    return DSFPN([16, 32], 32, 3, in_strides=(4, 8), **more)


def run(model: nn.Module, grad: bool = True) -> tuple[torch.Tensor, ...]:
    """Run a backbone or a neck on fixed inputs."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(2, 3, 64, 64, generator=generator)
    if isinstance(model, DSFPN):
        sizes = ((16, 16, 12), (32, 8, 6))
        inputs = [torch.rand(2, *size, generator=generator) for size in sizes]
    with torch.set_grad_enabled(grad):
        return model(inputs)


@pytest.mark.parametrize('tiles', [False, True])
@pytest.mark.parametrize('grad', [True, False])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize('with_cp', ['mlp', True, False])
def test_every_module_with_weights_is_called(
    with_cp, norm_eval, training, grad, tiles, monkeypatch
):
    if tiles:
        monkeypatch.setattr(mlp, 'LARGE_MAP', 0)
    called = set()
    backbone = make(norm_eval=norm_eval, with_cp=with_cp, out_norm_cfg=dict(type='LN'))
    models = dict(backbone=backbone, neck=make_neck())
    for model in models.values():
        wanted = set()
        for name, module in model.named_modules():
            if list(module.parameters(recurse=False)):
                wanted.add(name)
                module.register_forward_hook(lambda *_, name=name: called.add(name))
        model.train(training)
        run(model, grad)
        assert len(wanted) > 20
        assert called >= wanted, wanted - called
        called.clear()


def prune_half(block: DSBlock, name: str) -> None:
    prune.l1_unstructured(block.get_submodule(name), 'weight', 0.5)


def parametrize_half(block: DSBlock, name: str) -> None:
    class Half(nn.Module):
        def forward(self, weight):
            return prune.L1Unstructured(0.5).compute_mask(weight, torch.ones_like(weight)) * weight

    parametrize.register_parametrization(block.get_submodule(name), 'weight', Half())


class Wrapper(nn.Module):
    """A replacement that calls the original, as adapters do."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x):
        return self.base(x) * 2


def wrap(block: DSBlock, name: str) -> None:
    parent, _, child = name.rpartition('.')
    setattr(block.get_submodule(parent), child, Wrapper(block.get_submodule(name)))


@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('change', [prune_half, parametrize_half, wrap])
def test_pruned_parametrized_and_replaced_modules_work(change, ratio):
    block = DSBlock(16, num_heads=1, grid_stride=2, global_ratio=ratio).double().eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    x = torch.rand(2, 16, 9, 7, dtype=torch.double)
    before = block(x)
    names = [n for n, m in block.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert {'in_proj', 'out_proj', 'ffn.fc1'} <= set(names)
    for name in names:
        change(block, name)
        now = block(x)
        assert not torch.allclose(now, before), name
        before = now
    assert_close(before, as_published(block)(x))


def test_settings_left_from_another_backbone_are_refused():
    with pytest.raises(ValueError, match=r'DSNet has no argument depth, style; .*_delete_=True'):
        DSNet('tiny', depth=50, style='pytorch')
    with pytest.raises(ValueError, match='no argument pretrained; write pretrained=None in the'):
        DSNet('tiny', pretrained='torchvision://resnet50')


def test_mmengine_counts_attention():
    """Compare with this project's counter, which uses PyTorch's; mmengine adds norms."""
    model, size = make().eval(), (96, 128)
    counted = get_model_complexity_info(model, (3, *size), show_table=False, show_arch=False)
    macs, _ = count_macs(deepcopy(model).to('meta'), torch.empty(1, 3, *size, device='meta'))
    assert macs < counted['flops'] < 1.05 * macs


def test_features_of_a_block_by_torchvision():
    names: dict = {}
    (text,) = blocks(read('docs/models.md'), 'python')
    exec(text, names)
    model, extractor = names['model'], names['extractor']
    image, seen = torch.rand(1, 3, 65, 97), []
    model.stages[2].blocks[1].register_forward_hook(lambda module, args, out: seen.append(out))
    model(image)
    assert_close(extractor(image)['stages.2.blocks.1'], seen[0])
