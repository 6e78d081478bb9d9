"""Test the maps of the two streams, and the command that draws them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import documented, dsnet_mm_ends
from test_predict import make_detector

from dsnet_mm.analysis.streams import find_block, look
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSBlock, DSNet


@pytest.mark.parametrize('alpha', [0, 0.5, 1])
def test_maps_have_the_sizes_of_the_streams(alpha):
    block = DSBlock(16, num_heads=2, grid_stride=4, global_ratio=alpha).eval()
    seen = look(block, lambda: block(torch.rand(1, 16, 21, 14)), (0.5, 0.5))
    for values, size, exists in (
        (seen.local, (21, 14), alpha < 1),
        (seen.global_attention, (5, 3), alpha > 0),
        (seen.local_to_global, (5, 3), alpha == 0.5),
        (seen.global_to_local, (21, 14), alpha == 0.5),
    ):
        assert (values is not None) == exists
        if exists:
            assert values.shape == size
    for values in (seen.global_attention, seen.local_to_global, seen.global_to_local):
        if values is not None:
            assert values.sum() == pytest.approx(1)


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
    seen = look(block, lambda: block(x), (3 / 8, 6 / 8))
    v_g = layer.qkv_global(layer.norm_global(kept['tokens']))[0].chunk(3, dim=-1)[2]
    expected = layer.proj_local(seen.local_to_global.flatten() @ v_g)
    got = (kept['local'] - kept['was'])[0, :, 3, 6]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_blocks_are_found_by_their_numbers():
    arch = dict(embed_dims=(16, 32), depths=(1, 3), num_heads=(1, 2), mlp_ratio=2)
    model = DSNet(arch, out_indices=(1,))
    assert find_block(model, 2, 1) is model.stages[1].blocks[0]
    assert find_block(model, 2, -1) is model.stages[1].blocks[2]
    swin = SimpleNamespace(stages=[SimpleNamespace(blocks=[torch.nn.Identity()])])
    with pytest.raises(UserError, match='has 0 DS stages'):
        find_block(swin, 1, 1)
    for stage, block, words in (
        (3, 1, 'has 2 DS stages'),
        (2, 4, 'has 3 blocks'),
        (2, 0, 'has 3 blocks'),
    ):
        with pytest.raises(UserError, match=words):
            find_block(model, stage, block)


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    return make_detector(
        tmp_path_factory.mktemp('detector'),
        'mask_rcnn_dsnet_t_fpn_1x_coco',
        'dict(rcnn=dict(score_thr=0.0, max_per_img=3))',
    )


def test_the_command(detector, tmp_path, monkeypatch):
    image, out = tmp_path / 'image.png', tmp_path / 'streams.png'
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))

    program, _, _, _, _, *options = documented('docs/own_data.md', 'dsnet-mm streams')
    assert program == 'dsnet-mm'

    def run(*arguments: object) -> str | None:
        words = [*detector, image, '--device', 'cpu', *options, '--out', out, *arguments]
        return dsnet_mm_ends('streams', *words) or None

    assert run('--at', 79, 59) is None
    drawn = cv2.imread(str(out))
    assert drawn.shape[1] > 4 * drawn.shape[0]
    assert 'streams.png already exists' in run()
    for arguments, words in (
        (['--at', 80, 0], 'is outside'),
        (['--stage', 5], 'stage 5 does not exist'),
        (['--block', 2], 'block 2 does not exist'),
        (['--out', tmp_path / 'streams.txt'], 'must end in .png or .svg'),
    ):
        assert words in run('--force', *arguments)
