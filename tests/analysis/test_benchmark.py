"""Test the benchmark: measured parts, order of runs, and reports."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from dsnet_mm.analysis import benchmark as module
from dsnet_mm.analysis.benchmark import Result, Setting, Spread, benchmark, prepare, workload
from dsnet_mm.analysis.benchmark_report import plot, to_json, to_markdown
from dsnet_mm.analysis.building import OTHERS, build_candidate
from dsnet_mm.analysis.macs import count_model_macs, count_parameters
from dsnet_mm.analysis.memory import peak_memory
from dsnet_mm.analysis.model_info import describe_memory
from dsnet_mm.analysis.tables import memory_table
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSBlock, DSNet
from dsnet_mm.models.published import PublishedDSNet, as_published
from helpers.commands import run_command
from helpers.paths import ROOT

TINY_DETECTOR = f"""
_base_ = {str(ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py')!r}
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1),
            num_heads=(1, 2, 3, 4), mlp_ratio=1)),
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=8, stacked_convs=1))
"""
SMALL = dict(height=64, width=96)
SCALARS = 64  # bytes of scalars in an expression


@pytest.fixture(autouse=True)
def _small_matrix_product(monkeypatch):
    monkeypatch.setitem(module.PRODUCT_SIZES, 'cpu', 64)


@pytest.fixture
def detector(tmp_path):
    """Return the path of the config of a detector that runs in milliseconds."""
    path = tmp_path / 'tiny_detector.py'
    path.write_text(TINY_DETECTOR)
    return path


def result(name, seconds, peak_bytes=None, macs=1000, **setting):
    """Return a result with a matrix product of 1000 MACs per second."""
    rate = (1000.0,) * len(seconds)
    return Result(name, Setting(**setting), 10, macs, tuple(seconds), rate, peak_bytes)


# ---- memory


def test_peak_memory_counts_live_tensors():
    held = torch.ones(1000)

    def work():
        first = held + 1  # 4 kB
        second = torch.cat([first, first])  # 12 kB
        del first  # 8 kB
        return second + 1  # 16 kB

    assert peak_memory(work) == pytest.approx(16_000, abs=SCALARS)
    assert peak_memory(lambda: held.add_(1)) < SCALARS


def test_peak_memory_ignores_earlier_allocations():
    tensors = [torch.ones(1000)]

    def work():
        fresh = tensors[0] + 1
        tensors.clear()
        return fresh

    assert peak_memory(work) == pytest.approx(4_000, abs=SCALARS)


def test_the_block_needs_a_third_of_the_memory_of_the_published_formulation():
    block = DSBlock(64, num_heads=1, grid_stride=8).eval()  # of stage 1 at 800x1344
    x = torch.rand(1, 64, 200, 336)
    last = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        fused = peak_memory(lambda: block(last))
        as_published(block)
        published = peak_memory(lambda: block(x))
    assert fused <= 0.35 * published


# ---- candidates


@pytest.mark.parametrize('name', ['dsnet_t', 'published_dsnet_t_noalign', 'dsnet_s_noalign'])
def test_candidates_by_short_name(name):
    backbone = build_candidate(name).backbone
    assert type(backbone) is (PublishedDSNet if name.startswith('published') else DSNet)
    blocks = [len(stage.blocks) for stage in backbone.stages]
    assert blocks == list(DSNet.arch_zoo['small' if '_s' in name else 'tiny']['depths'])
    assert (backbone.stages[0].blocks[0].alignment is None) == name.endswith('noalign')


@pytest.mark.parametrize(
    ('name', 'backbone'),
    [('r50', 'ResNet'), ('swin_t', 'SwinTransformer'), ('pvt_s', 'PyramidVisionTransformer')],
)
def test_candidates_of_mmdet_need_no_network(name, backbone):
    model = build_candidate(name)
    assert name in OTHERS
    assert type(model.backbone).__name__ == backbone
    assert model.bbox_head.retina_cls.bias.max() < -4  # the initial bias of a detector


def test_a_candidate_with_a_limited_grid():
    backbone = build_candidate('published_dsnet_t_grid25').backbone
    assert {block.max_grid_cells for stage in backbone.stages for block in stage.blocks} == {25}


def test_an_unknown_candidate_is_reported():
    with pytest.raises(UserError, match=r'dsnet_x is unknown; .* r50, swin_t, pvt_s'):
        build_candidate('dsnet_x')


# ---- measuring


@pytest.mark.parametrize('part', ['backbone', 'detector', 'train'])
def test_benchmark_measures_each_part(detector, part):
    setting = Setting(part, **SMALL, batch=2)
    ((first,),) = benchmark([str(detector)], [setting], rounds=3, warmup=1)
    model = build_candidate(str(detector))
    parameters, macs = count_parameters(model), count_model_macs(model, 64, 96)
    expected = {
        'backbone': (parameters.backbone, 2 * macs.backbone),
        'detector': (parameters.whole, 2 * macs.whole),
        'train': (parameters.whole, None),
    }
    assert (first.parameters, first.macs) == expected[part]
    assert len(first.seconds) == len(first.product_rate) == 3
    assert min(*first.seconds, *first.product_rate, first.peak_bytes) > 0


def test_a_training_step_computes_the_gradients_of_all_weights(detector):
    setting = Setting('train', **SMALL)
    model = prepare(build_candidate(str(detector)), setting)
    reached = set()
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: reached.add(name))
    work = workload(model, setting)
    peak = peak_memory(work)
    assert reached == {name for name, _ in model.named_parameters()}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert peak > sum(parameter.numel() * 4 for parameter in model.parameters())
    assert peak == pytest.approx(peak_memory(work), rel=0.05)


def test_a_backbone_runs_in_half_precision_and_channels_last(detector):
    setting = Setting(**SMALL, dtype='bfloat16', channels_last=True)
    model = prepare(build_candidate(str(detector)), setting)
    types = []
    model.backbone.stages[0].register_forward_hook(lambda *_: types.append(_[-1].dtype))
    outs = workload(model, setting)()
    assert types == [torch.bfloat16]
    assert {out.dtype for out in outs} == {torch.float32}
    assert not any(out.requires_grad for out in outs)
    ((first,),) = benchmark([str(detector)], [setting], rounds=1, warmup=0, memory=False)
    assert first.peak_bytes is None
    assert first.macs == count_model_macs(build_candidate(str(detector)), 64, 96).backbone


@pytest.mark.slow
@pytest.mark.usefixtures('fresh_compiler')
@pytest.mark.parametrize('part', ['backbone', 'train'])
def test_candidates_are_also_measured_compiled(detector, monkeypatch, part):
    """Compile with a fast backend; test_compile.py tests the outputs of the graphs."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend=counter))
    settings = [Setting(part, **SMALL), Setting(part, 96, 128)]
    counts = []
    for plain, compiled in benchmark(
        [str(detector)], settings, rounds=1, warmup=1, memory=False, compiled=True
    ):
        assert compiled.name == f'{plain.name}, compiled'
        assert (compiled.parameters, compiled.macs) == (plain.parameters, plain.macs)
        counts.append(counter.frame_count)
    parts = 1 if part == 'backbone' else 2
    assert counts == [parts, 2 * parts]


def test_compiling_needs_a_warm_up():
    with pytest.raises(UserError, match='compiled in the warm-up; pass --warmup 1'):
        list(benchmark(['dsnet_t'], [Setting()], warmup=0, compiled=True))


@pytest.mark.parametrize(
    'device',
    [
        'gpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU'),
        ),
    ],
)
def test_an_unusable_device_is_reported(device):
    with pytest.raises(UserError, match=f'this machine has no device {device}; pass --device cpu'):
        Setting(device=device)


def test_memory_of_a_detector(detector):
    info = describe_memory(detector, (64, 96))
    assert 0 < info.backbone < info.training
    assert 0 < info.whole < info.training
    assert 0 < info.neck < info.whole
    peaks = (info.backbone, info.neck, info.whole, info.training)
    cells = ' | '.join(f'{peak / 1e6:.0f}' for peak in peaks)
    assert f'| tiny_detector | {cells} |' in memory_table([info])


# ---- reporting


def test_ratios_are_paired_by_round():
    # the machine slows down by a factor of ten in the last two rounds
    first = result('first', [1.0, 1.0, 10.0, 10.0, 10.0])
    second = result('second', [2.0, 2.0, 20.0, 20.0, 30.0])
    assert second.time_against(first) == Spread(2, 2, 2)
    assert first.against_product == Spread(1, 10, 10)
    assert result('train', [1.0], macs=None).against_product is None
    assert result('batch', [1.0, 3.0, 4.0], batch=6).throughput == 2
    assert Spread.of([1, 2, 3, 4, 5]) == Spread(2, 3, 4)
    assert Spread.of([7]) == Spread(7, 7, 7)


def test_markdown_and_json_contain_ratios_and_figures():
    group = [result('a', [1.0, 1.0], 4_000_000), result('b', [2.0, 2.0], 1_000_000)]
    text = to_markdown([group])
    row = next(line for line in text.splitlines() if line.startswith('| b '))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[3:7] == ['2.00 (2.00-2.00)', '0.50', '0.25', '2.00 (2.00-2.00)']
    assert cells[7:] == ['2000.0 (2000.0-2000.0)', '0.50', '1']
    assert 'backbone, 800x1344, batch 1, float32' in text
    assert f'torch {torch.__version__}' in text

    results = json.loads(json.dumps(to_json([group])))['results']
    assert [x['name'] for x in results] == ['a', 'b']
    assert results[1]['time_ratio']['median'] == 2
    assert results[1]['memory_ratio'] == 0.25
    assert results[1]['seconds'] == [2, 2]
    assert results[1]['setting']['width'] == 1344


@pytest.mark.parametrize('peak', [None, 1000])
@pytest.mark.parametrize('sizes', [(64,), (64, 128, 32)])
def test_plot(tmp_path, sizes, peak):
    groups = [
        [result(name, [1.0, 2.0], peak, height=size, width=size) for name in 'ab'] for size in sizes
    ]
    plot(groups, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.slow
def test_command(detector, tmp_path):
    files = {kind: tmp_path / f'out.{kind}' for kind in ('json', 'markdown', 'plot')}
    files['plot'] = files['plot'].with_suffix('.svg')
    outputs = [str(x) for kind, path in files.items() for x in (f'--{kind}', path)]
    done = run_benchmark(detector, '--sizes', '32x64', '--rounds', 2, '--warmup', 0, *outputs)
    assert done.returncode == 0, done.stderr
    assert files['markdown'].read_text() == done.stdout
    assert 'INFO' not in done.stderr  # mmengine would log each weight
    assert len(json.loads(files['json'].read_text())['results']) == 1
    assert '<svg' in files['plot'].read_text()


@pytest.mark.slow
def test_command_reports_errors_in_one_line():
    done = run_benchmark('nothing')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: nothing is unknown')
    assert 'Traceback' not in done.stderr


def run_benchmark(*args):
    return run_command('benchmark', *args, '--device', 'cpu')
