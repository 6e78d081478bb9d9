"""torch.compile of backbone and neck: whole graphs, few of them, and the results of eager mode."""

from __future__ import annotations

import copy
import os
import re
import shutil
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from dsnet_mm.models import DSFPN, DSNet
from dsnet_mm.models.ds_block import DSBlock
from helpers.documents import read

pytestmark = pytest.mark.usefixtures('fresh_compiler')


class BackboneAndNeck(nn.Module):
    """A DS-Net of two stages and, behind the second, a DS-FPN with an extra level."""

    def __init__(self, max_grid_cells: int | None = None) -> None:
        super().__init__()
        arch = dict(embed_dims=(16, 32), depths=(1, 1), num_heads=(1, 2), mlp_ratio=2)
        self.backbone = DSNet(arch, out_indices=(0, 1), max_grid_cells=max_grid_cells)
        self.neck = DSFPN(
            [16, 32],
            32,
            num_outs=2,
            in_strides=(4, 8),
            start_level=1,
            add_extra_convs='on_input',
            mlp_ratio=1,
            block_norm_cfg=dict(type='GN', num_groups=4),
            max_grid_cells=max_grid_cells,
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> two maps."""
        return self.neck(self.backbone(images))


def assert_close(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Compare by the largest value of all, since some gradients are sums that cancel out."""
    scale = max(x.abs().max() for x in wanted)
    assert scale > 0
    for index, (a, b) in enumerate(zip(given, wanted, strict=True)):
        assert (a - b).abs().max() <= 1e-4 * scale, index


@pytest.mark.slow
@pytest.mark.parametrize('max_grid_cells', [None, 18])
def test_sizes_share_one_graph(max_grid_cells):
    """The first size has a graph of its own, the second brings one for all.

    The grids have 12 to 24 cells, so the limit of 18 is active for two sizes. Its grids have two
    rows and columns or more: PyTorch makes another graph for one.
    """
    model = BackboneAndNeck(max_grid_cells).eval()
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    graphs = []
    with torch.no_grad():
        for size in ((96, 128), (160, 132), (97, 161), (211, 130), (64, 300), (300, 65)):
            images = torch.rand(2, 3, *size)
            assert_close(compiled(images), model(images))
            graphs.append(counter.frame_count)
    assert graphs == [1, 2, 2, 2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [dict(norm_eval=True, with_cp=True), dict(norm_eval=False), {}],
    ids=['checkpointing', 'BatchNorm learns', 'defaults'],
)
def test_training_step(options):
    arch = dict(embed_dims=(16,), depths=(1,), num_heads=(1,), mlp_ratio=2)
    model = DSNet(arch, out_indices=(0,), **options).train()
    twin = copy.deepcopy(model)
    images = torch.rand(2, 3, 67, 64)
    (out,) = torch.compile(model, backend='aot_eager', fullgraph=True)(images)
    out.square().mean().backward()
    twin(images)[0].square().mean().backward()
    assert_close([p.grad for p in model.parameters()], [p.grad for p in twin.parameters()])
    assert_close(list(model.buffers()), list(twin.buffers()))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(os.environ.get('CXX', 'g++')), reason='no C++ compiler')
def test_the_default_backend_compiles_a_block_with_alignment_and_mlp():
    block = DSBlock(8, num_heads=1, grid_stride=4, mlp_ratio=1).eval()
    assert block.alignment is not None
    assert block.ffn is not None
    x = torch.rand(1, 8, 9, 13)
    with torch.no_grad():
        assert_close([torch.compile(block, fullgraph=True)(x)], [block(x)])


def test_the_documented_lines():
    (lines,) = re.findall(r'```python\n(model.*?)```', read('docs/performance.md'), re.DOTALL)
    model = BackboneAndNeck()
    names = list(model.state_dict())
    exec(lines, {'model': model})
    assert list(model.state_dict()) == names
    for part in (model.backbone, model.neck):
        assert part._compiled_call_impl is not None
