"""Test the maps of blocks, and the command that draws them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dsnet_mm.analysis.block_maps import Maps
from dsnet_mm.analysis.ds_block_maps import GLOBAL, LOCAL, TO_GLOBAL, TO_LOCAL
from dsnet_mm.analysis.glnet_maps import CLUSTERING, DISPATCH, OWNERS
from dsnet_mm.analysis.glnet_maps import LOCAL as BRANCH
from dsnet_mm.analysis.streams import block_numbers, find_block, panels, read, record
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSBlock, DSNet, GLMixBlock, GLNet
from dsnet_mm.models.block import Block
from dsnet_mm.models.glmix_block import AttentionBlock
from dsnet_mm.models.glmix_reference import glmix_steps
from helpers.commands import dsnet_mm_ends
from helpers.detectors import TINY_BACKBONES, make_detector
from helpers.documents import documented


def look(block: Block, image: torch.Tensor, place: tuple[float, float]) -> Maps:
    return read(block, record(block, lambda: block(image))[1], place)


@pytest.mark.parametrize(
    ('alpha', 'sizes'),
    [
        (0, {LOCAL: (21, 14)}),
        (0.5, {LOCAL: (21, 14), GLOBAL: (5, 3), TO_GLOBAL: (5, 3), TO_LOCAL: (21, 14)}),
        (1, {GLOBAL: (5, 3)}),
    ],
)
def test_maps_have_the_sizes_of_the_streams(alpha, sizes):
    block = DSBlock(16, num_heads=2, grid_stride=4, global_ratio=alpha).eval()
    maps = look(block, torch.rand(1, 16, 21, 14), (0.5, 0.5))
    assert {title: values.shape for title, values in maps.items()} == sizes
    for title, values in maps.items():
        if title != LOCAL:
            assert values.sum() == pytest.approx(1)


def test_maps_have_the_size_of_a_limited_grid():
    block = DSBlock(16, num_heads=2, grid_stride=4, max_grid_cells=6).eval()
    maps = look(block, torch.rand(1, 16, 32, 20), (0.9, 0.9))
    assert maps[GLOBAL].shape == maps[TO_GLOBAL].shape == (3, 1)


def test_maps_are_the_attention_weights_of_the_block():
    """Multiply the values with the map, and compare with the output of the alignment."""
    block = DSBlock(16, num_heads=1, grid_stride=4).eval()
    layer = block.alignment
    x = torch.rand(1, 16, 8, 8)
    kept = {}
    layer.register_forward_pre_hook(lambda module, inputs: kept.update(tokens=inputs[1]))
    layer.register_forward_hook(
        lambda module, inputs, out: kept.update(local=out[0], was=inputs[0])
    )
    maps = look(block, x, (3 / 8, 6 / 8))
    v_g = layer.qkv_global(layer.norm_global(kept['tokens']))[0].chunk(3, dim=-1)[2]
    expected = layer.proj_local(maps[TO_GLOBAL].flatten() @ v_g)
    got = (kept['local'] - kept['was'])[0, :, 3, 6]
    assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('learned', [False, True], ids=['pooled', 'learned'])
@pytest.mark.parametrize('has_convs', [False, True], ids=['swin', 'hybrid'])
def test_maps_of_slots_follow_from_the_steps_of_the_plain_block(has_convs, learned):
    block = GLMixBlock(32, learned, has_convs=has_convs).eval()
    block.slot_scale.data.fill_(8)
    x = torch.randn(1, 32, 11, 9)
    maps = look(block, x, (0.3, 0.9))  # row 3, column 8
    with torch.no_grad():
        steps = glmix_steps(block, x)
    similarity = steps['similarity'].view(64, 11, 9)
    dispatch = similarity.softmax(dim=0)
    owners = dispatch.argmax(dim=0)
    slot = owners[3, 8]
    expected = {
        OWNERS: owners,
        CLUSTERING: similarity[slot].flatten().softmax(dim=0).view(11, 9),
        DISPATCH: dispatch[slot],
        BRANCH: steps['local_branch'][0].abs().mean(dim=0),
    }
    assert owners.unique().numel() > 8
    assert list(maps) == list(expected)
    for title, values in expected.items():
        assert_close(maps[title], values)


def test_map_of_full_attention_gives_the_output_of_the_attention():
    """Multiply the values of one head with the map."""
    block = AttentionBlock(32).eval()
    layer, kept = block.mha_op, {}
    layer.register_forward_hook(lambda module, inputs, out: kept.update(tokens=inputs[0], out=out))
    (weights,) = look(block, torch.randn(1, 32, 8, 6), (3 / 8, 5 / 6)).values()
    qkv = kept['tokens'][0] @ layer.in_proj_weight.T + layer.in_proj_bias
    expected = layer.out_proj(weights.flatten() @ qkv[:, 64:])
    assert_close(kept['out'][0, 3 * 6 + 5], expected, rtol=1e-4, atol=1e-6)


def test_panels_show_the_image_without_its_padding():
    """The padding is a half of the height and a third of the width, and has extreme values."""
    image = np.full((40, 40, 3), 100, np.uint8)
    values = torch.tensor([[0.0, 1, 9], [2, 4, 9], [9, 9, 9], [9, 9, 9]])
    slots = torch.tensor([[0, 0, 63], [7, 0, 63], [63, 63, 63], [63, 63, 63]])
    drawn = panels(image, dict(values=values, slots=slots), (0.5, 2 / 3))
    corners = (slice(5, None, 20), slice(5, None, 20))
    shades = drawn['values'][corners].astype(int).sum(axis=2)
    assert shades.shape == (2, 2)
    assert np.argsort(shades, axis=None).tolist() == [0, 1, 2, 3]
    assert shades[1, 1] > 500  # the largest value of the image, not of the padding
    colors = drawn['slots'][corners]
    assert (colors[0, 0] == colors[0, 1]).all()
    assert (colors[0, 0] == colors[1, 1]).all()
    assert (colors[0, 0] != colors[1, 0]).any()


def test_each_slot_has_a_color_of_its_own():
    image = np.zeros((24, 24, 3), np.uint8)
    drawn = panels(image, dict(slots=torch.arange(64).view(8, 8)), (1, 1))['slots']
    assert len(np.unique(drawn[1::3, 1::3].reshape(-1, 3), axis=0)) == 64


DS_ARCH = dict(embed_dims=(16, 32), depths=(1, 3), num_heads=(1, 2), mlp_ratio=2)
GL_ARCH = dict(TINY_BACKBONES['glnet'], embed_dims=(32, 32), depths=(1, 3))


@pytest.mark.parametrize(
    'model', [DSNet(DS_ARCH, out_indices=(1,)), GLNet(GL_ARCH, (1,))], ids=['DS', 'GL']
)
def test_blocks_are_found_by_their_numbers(model):
    assert block_numbers(model) == [(1, 1), (2, 1), (2, 2), (2, 3)]
    assert find_block(model, 2, 1) is model.stages[1].blocks[0]
    assert find_block(model, 2, -1) is model.stages[1].blocks[2]
    for stage, block, words in (
        (3, 1, 'stage 3 does not exist; the backbone has 2 stages'),
        (0, 1, 'stage 0 does not exist; the backbone has 2 stages'),
        (2, 4, 'block 4 does not exist; stage 2 has 3 blocks'),
        (2, 0, 'block 0 does not exist; stage 2 has 3 blocks'),
        (1, -2, 'block -2 does not exist; stage 1 has 1 block,'),
    ):
        with pytest.raises(UserError, match=words):
            find_block(model, stage, block)


def test_other_backbones_have_no_maps():
    swin = SimpleNamespace(stages=[SimpleNamespace(blocks=[torch.nn.Identity()])])
    assert block_numbers(swin) == []
    with pytest.raises(UserError, match='SimpleNamespace has no blocks with maps; use a'):
        find_block(swin, 1, 1)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    return path


@pytest.mark.parametrize(
    ('page', 'base', 'test_cfg'),
    [
        ('own_data', 'mask_rcnn_dsnet_t_fpn_1x_coco', dict(rcnn=dict(max_per_img=3))),
        ('glnet', 'retinanet_glnet_stl_fpn_1x_coco', dict(max_per_img=3)),
    ],
)
def test_the_command(page, base, test_cfg, image, tmp_path):
    detector = make_detector(tmp_path, base, repr(test_cfg))
    program, name, _, _, _, *options = documented(f'docs/{page}.md', 'dsnet-mm streams')
    assert program == 'dsnet-mm'
    out = tmp_path / 'maps.png'
    words = [*detector, image, '--device', 'cpu', *options, '--at', 79, 59, '--out', out]
    assert not dsnet_mm_ends(name, *words)
    drawn = cv2.imread(str(out))
    assert drawn.shape[1] > 4 * drawn.shape[0]


def test_wrong_arguments(image, tmp_path):
    detector = make_detector(tmp_path, 'retinanet_dsnet_t_fpn_1x_coco', 'dict(max_per_img=3)')
    for arguments, words in (
        (['--out', image], 'image.png already exists'),
        (['--at', 80, 0], 'is outside'),
        (['--stage', 5], 'stage 5 does not exist'),
    ):
        assert words in dsnet_mm_ends('streams', *detector, image, '--device', 'cpu', *arguments)
