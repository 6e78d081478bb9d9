"""The limit on the cells of the global grid; test_reference.py compares it with the reference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dsnet_mm.deploy import checking, onnx_file
from dsnet_mm.deploy.raw_graphs import Maps
from dsnet_mm.errors import ConfigError
from dsnet_mm.models import DSFPN, DSBlock, DSNet
from dsnet_mm.models.ops import grid_size
from dsnet_mm.models.reference import at_most

ARCH = dict(embed_dims=(8, 16), depths=(1, 1), num_heads=(1, 2), mlp_ratio=1)


def detector(cells: int | None) -> nn.Module:
    """Return a backbone and a DS-FPN, with the same weights in each call."""
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = DSNet(ARCH, out_indices=(0, 1), max_grid_cells=cells)
    model.neck = DSFPN(
        [8, 16],
        16,
        num_outs=2,
        in_strides=(4, 8),
        block_norm_cfg=dict(type='GN', num_groups=4),
        mlp_ratio=1,
        max_grid_cells=cells,
    )
    return model.eval()


def grid(size: tuple[int, int], cells: int | None) -> tuple[int, int]:
    return grid_size(torch.empty(1, 1, *size, device='meta'), 1, cells)


@pytest.mark.parametrize(
    ('size', 'cells', 'expected'),
    [
        ((25, 42), 1050, (25, 42)),
        ((25, 42), 1049, (24, 41)),
        ((128, 128), 1050, (32, 32)),
        ((48, 48), 4, (2, 2)),  # exactly the limit
        ((1, 300), 25, (1, 25)),
        ((300, 7), 2, (2, 1)),
        ((9, 9), 1, (1, 1)),
    ],
)
def test_a_grid_above_the_limit_is_coarser(size, cells, expected):
    assert grid(size, cells) == expected
    assert grid(size[::-1], cells) == expected[::-1]


def test_grids_of_all_sizes():
    for cells in (1, 5, 36, 100):
        for height in range(1, 30):
            for width in range(1, 30):
                rows, columns = grid((height, width), cells)
                assert 1 <= rows <= height
                assert 1 <= columns <= width
                assert rows * columns <= cells
                assert (rows, columns) == at_most((height, width), cells)  # of the reference


@torch.no_grad()
def test_the_limit_changes_large_images_only():
    limited, unlimited = detector(6), detector(None)
    assert limited.state_dict().keys() == unlimited.state_dict().keys()
    for size, equal in (((64, 95), True), ((160, 96), False)):
        images = torch.rand(1, 3, *size)
        maps = [model.backbone(images) for model in (limited, unlimited)]
        assert torch.equal(maps[0][1], maps[1][1]) == equal
        outs = [model.neck(maps[0]) for model in (limited, unlimited)]
        assert torch.equal(outs[0][1], outs[1][1]) == equal


@pytest.mark.parametrize('value', [0, -1, 2.0, True, '9', 'none'])
@pytest.mark.parametrize(
    'build',
    [
        lambda value: DSBlock(8, 1, 2, max_grid_cells=value),
        lambda value: DSNet(ARCH, out_indices=(0,), max_grid_cells=value),
        lambda value: DSFPN([8], 64, 1, in_strides=[4], max_grid_cells=value),
    ],
    ids=['DSBlock', 'DSNet', 'DSFPN'],
)
def test_a_bad_limit_is_reported(build, value):
    with pytest.raises(ConfigError) as caught:
        build(value)
    assert str(caught.value) == (
        f'max_grid_cells={value!r} is no number of cells; set it to a whole number from 1, or to '
        'None for a grid without a limit'
    )


def test_the_graph_equals_the_model_below_and_above_the_limit(tmp_path):
    part = Maps(detector(6), with_neck=True).eval()
    file = tmp_path / 'graph.onnx'
    onnx_file.to_onnx(part, (96, 128), file, {})
    sizes = [(64, 96), (211, 130), (40, 300)]  # in cells 2x3, 6x4 and 1x9
    agreements = dict(checking.compare(part, file, sizes))
    assert list(agreements) == sizes
    assert all(agreement.is_close for agreement in agreements.values())
