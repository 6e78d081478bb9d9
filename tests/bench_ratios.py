"""The ratios of time and memory that docs/performance.md claims, measured anew by `make bench`.

Its name keeps it out of `make test`: on a machine that does other work a time proves nothing.
All candidates of a ratio take turns in one run. A ratio has an aim, and a limit that keeps what was
reached on a CPU from being lost, with room for another machine; where nothing was measured, on a
GPU, the limit is the aim.
"""

from __future__ import annotations

import pytest
import torch

from dsnet_mm.analysis.benchmark import Result, Setting, benchmark

ON_GPU = torch.cuda.is_available()
COMMON = dict(device='cuda', dtype='bfloat16') if ON_GPU else {}


def measure(names: list[str], setting: Setting, **kwargs) -> dict[str, Result]:
    (results,) = benchmark(names, [setting], **kwargs)
    for result in results:
        print(f'\n{result.name}: {result.throughput:.3g} images/s', end='')
    return {result.name: result for result in results}


@pytest.fixture(scope='module')
def large() -> dict[str, Result]:
    """The backbones on an image of a detector's size."""
    setting = Setting('backbone', 800, 1344, **COMMON)
    return measure(['dsnet_s', 'published_dsnet_s', 'swin_t'], setting)


def check(what: str, ratio: float, aim: float, limit: float, at_least: bool = False) -> None:
    """Print a ratio beside its aim, and fail where it misses its limit."""
    limit = aim if ON_GPU else limit
    sign = -1 if at_least else 1
    missed = '' if sign * ratio <= sign * aim else ', missed'
    print(f'\n{what}: {ratio:.3f} (aim {aim}{missed}; limit {limit})')
    assert sign * ratio <= sign * limit


@pytest.mark.parametrize(
    ('other', 'aim', 'limit'), [('published_dsnet_s', 0.25, 0.4), ('swin_t', 1.0, 1.4)]
)
def test_time(large, other, aim, limit):
    ratio = large['dsnet_s'].time_against(large[other]).median
    check(f'time over that of {other}', ratio, aim, limit)


@pytest.mark.skipif(ON_GPU, reason='stated for CPUs')
def test_time_against_its_arithmetic(large):
    ratio = large['dsnet_s'].against_product.median
    check('time over that of as many MACs in a matrix product', ratio, 1.2, 2.0)


def test_memory(large):
    ratio = large['dsnet_s'].peak_bytes / large['published_dsnet_s'].peak_bytes
    check('peak memory over that of the published formulation', ratio, 0.2 if ON_GPU else 0.35, 0.2)


def test_throughput_against_no_alignment():
    setting = Setting('backbone', 224, 224, batch=64 if ON_GPU else 16, **COMMON)
    results = measure(['dsnet_s', 'dsnet_s_noalign'], setting, memory=False)
    ratio = 1 / results['dsnet_s'].time_against(results['dsnet_s_noalign']).median
    check('throughput over that without alignment', ratio, 0.88, 0.7, at_least=True)


def test_memory_of_training():
    setting = Setting('train', 800, 1344, batch=2, **COMMON)
    results = measure(['dsnet_s', 'swin_t'], setting, rounds=1, warmup=0)
    ratio = results['dsnet_s'].peak_bytes / results['swin_t'].peak_bytes
    check('peak memory of a training step over that of Swin-T', ratio, 0.9, 0.85)
