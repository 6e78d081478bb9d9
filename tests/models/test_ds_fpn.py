"""The neck: behind any backbone, with any number of levels, at any size."""

import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.backbones import ResNet
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.registry import MODELS as ROOT_MODELS

from dsnet_mm.models import DSFPN, DSBlock, DSNet
from dsnet_mm.models.ds_fpn import DSFPNConv

CHANNELS = [16, 32, 48, 64]


def pyramid(size=(70, 51), channels=CHANNELS):
    """Backbone outputs for an image of ``size``."""
    return [
        torch.rand(2, c, -(-size[0] // 4 // 2**i), -(-size[1] // 4 // 2**i))
        for i, c in enumerate(channels)
    ]


def make(**kwargs):
    neck = DSFPN(CHANNELS, 32, **{'num_outs': 5, 'block_norm_cfg': dict(type='BN'), **kwargs})
    neck.init_weights()
    return neck


@pytest.mark.parametrize('num_outs', [4, 5, 6, 7])
@pytest.mark.parametrize('extra', [False, 'on_input', 'on_lateral', 'on_output'])
@pytest.mark.parametrize('size', [(70, 51), (33, 257)])
def test_levels_are_those_of_fpn(num_outs, extra, size):
    inputs = pyramid(size)
    ours = make(num_outs=num_outs, add_extra_convs=extra)(inputs)
    fpn = FPN(CHANNELS, 32, num_outs, add_extra_convs=extra)
    assert [out.shape for out in ours] == [out.shape for out in fpn(inputs)]
    assert len(ours) == num_outs


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(align=False, mlp_ratio=0),
        dict(start_level=1, add_extra_convs='on_output'),
        dict(num_outs=2, start_level=1, end_level=2),
        dict(with_cp=True),
    ],
)
def test_every_parameter_gets_a_gradient(kwargs):
    neck = make(**kwargs)
    sum(out.square().mean() for out in neck(pyramid())).backward()
    assert [n for n, p in neck.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_one_block_on_every_merged_level_and_none_on_extra_levels():
    neck = make(start_level=1, add_extra_convs='on_output', num_outs=5)
    assert [isinstance(conv, DSFPNConv) for conv in neck.fpn_convs] == [True] * 3 + [False] * 2
    # strides 8, 16, 32 with a grid of 1/32 of the image
    assert [conv.block.grid_stride for conv in neck.fpn_convs[:3]] == [4, 2, 1]


def test_blocks_act_on_merged_levels():
    """With blocks that do nothing, DS-FPN is FPN."""
    neck = make(mlp_ratio=0)
    for conv in neck.fpn_convs:
        if isinstance(conv, DSFPNConv):
            for parameter in [
                *conv.block.pos_embed.parameters(),
                *conv.block.out_proj.parameters(),
            ]:
                torch.nn.init.zeros_(parameter)
    fpn = FPN(CHANNELS, 32, 5)
    fpn.load_state_dict(
        {
            name.replace('.conv.conv.', '.conv.') if 'fpn_convs' in name else name: value
            for name, value in neck.state_dict().items()
            if '.block.' not in name
        }
    )
    inputs = pyramid()
    for ours, theirs in zip(neck(inputs), fpn(inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_initial_weights_of_convs_are_fpns_and_of_blocks_their_own():
    neck = make()
    conv = neck.fpn_convs[0].conv.conv.weight
    assert conv.abs().max().item() == pytest.approx((6 / (32 * 9 * 2)) ** 0.5, rel=0.01)
    block = neck.fpn_convs[0].block
    assert block.pos_embed.weight.abs().max().item() == pytest.approx(1 / 3, rel=0.05)


def test_pretrained_weights_are_not_reset(tmp_path):
    source = make()
    torch.save(source.state_dict(), tmp_path / 'neck.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'neck.pth'))
    neck = make(init_cfg=init_cfg)
    for name, value in neck.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


@pytest.mark.parametrize(
    'backbone',
    [ResNet(50, norm_eval=False), DSNet(dict(embed_dims=CHANNELS, depths=(1,) * 4,
                                             num_heads=(1, 2, 3, 4), mlp_ratio=1))],
    ids=['resnet50', 'dsnet'],
)  # fmt: skip
def test_behind_any_backbone(backbone):
    backbone.eval()
    features = backbone(torch.rand(1, 3, 97, 61))
    neck = MODELS.build(
        dict(
            type='DSFPN',
            in_channels=[feature.shape[1] for feature in features],
            out_channels=64,
            num_outs=5,
        )
    )
    outs = neck(features)
    assert [out.shape[1] for out in outs] == [64] * 5
    assert outs[0].shape[2:] == features[0].shape[2:]


@pytest.mark.parametrize('neck', [FPN(CHANNELS, 32, 5), make()], ids=['FPN', 'DSFPN'])
def test_regions_are_pooled_from_the_right_places(neck):
    """mmcv's RoIAlign takes the memory of a map as contiguous, whatever its layout."""
    arch = dict(embed_dims=CHANNELS, depths=(1,) * 4, num_heads=(1, 2, 3, 4), mlp_ratio=1)
    levels = neck(DSNet(arch)(torch.rand(1, 3, 96, 64)))
    pool = RoIAlign(output_size=3, spatial_scale=1 / 4)
    regions = torch.tensor([[0.0, 8, 12, 40, 60]])
    for level in levels:
        torch.testing.assert_close(pool(level, regions), pool(level.contiguous(), regions))
        assert level.is_contiguous()


@pytest.mark.parametrize('norm', [dict(type='BN'), dict(type='GN', num_groups=8)])
def test_norm_of_the_blocks(norm):
    block = make(block_norm_cfg=norm).fpn_convs[0].block
    assert isinstance(block, DSBlock)
    expected = {'BN': torch.nn.BatchNorm2d, 'GN': torch.nn.GroupNorm}[norm['type']]
    norms = [block.norm1, block.norm2, block.local_prop.norm, block.alignment.norm_local]
    assert all(type(layer) is expected for layer in norms)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r'in_channels=\[16, 32, 48, 64\].*gives \[16, 32, 48\]'):
        make()(pyramid()[:3])
    with pytest.raises(ValueError, match='in_strides of DSFPN has 2 entries for 4'):
        make(in_strides=(4, 8))
    with pytest.raises(ValueError, match='num_heads=3'):
        make(num_heads=3)
    with pytest.raises(ValueError, match='num_groups=32.*48 channels'):
        DSFPN(CHANNELS, 96, 5)
    with pytest.raises(ValueError, match='DSFPN with 3 in_channels needs in_strides'):
        DSFPN(CHANNELS[1:], 96, 5)


def test_other_packages_find_the_neck():
    assert ROOT_MODELS.get('DSFPN') is DSFPN
