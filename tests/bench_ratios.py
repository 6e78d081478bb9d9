"""The ratios of time and memory that docs/performance.md claims, measured anew by `make bench`.

Its name keeps it out of `make test`: on a machine that does other work a time proves nothing.
All candidates of a ratio take turns in one run.
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


@pytest.mark.parametrize(('other', 'limit'), [('published_dsnet_s', 0.25), ('swin_t', 1.0)])
def test_time(large, other, limit):
    ratio = large['dsnet_s'].time_against(large[other]).median
    print(f'\ntime over that of {other}: {ratio:.3f}, at most {limit}')
    assert ratio <= limit


@pytest.mark.skipif(ON_GPU, reason='stated for CPUs')
def test_time_against_its_arithmetic(large):
    ratio = large['dsnet_s'].against_product.median
    print(f'\ntime over that of as many MACs in a matrix product: {ratio:.3f}, at most 1.2')
    assert ratio <= 1.2


def test_memory(large):
    limit = 0.2  # the aim on a GPU; on a CPU it is 0.35, and 0.16 was reached
    ratio = large['dsnet_s'].peak_bytes / large['published_dsnet_s'].peak_bytes
    print(f'\npeak memory over that of the published formulation: {ratio:.3f}, at most {limit}')
    assert ratio <= limit


def test_throughput_against_no_alignment():
    setting = Setting('backbone', 224, 224, batch=64 if ON_GPU else 16, **COMMON)
    results = measure(['dsnet_s', 'dsnet_s_noalign'], setting, memory=False)
    ratio = 1 / results['dsnet_s'].time_against(results['dsnet_s_noalign']).median
    print(f'\nthroughput over that without alignment: {ratio:.3f}, at least 0.88')
    assert ratio >= 0.88


def test_memory_of_training():
    setting = Setting('train', 800, 1344, batch=2, **COMMON)
    results = measure(['dsnet_s', 'swin_t'], setting, rounds=1, warmup=0)
    ratio = results['dsnet_s'].peak_bytes / results['swin_t'].peak_bytes
    limit = 0.9 if ON_GPU else 0.85  # the aim is 0.9; on a CPU 0.79 was reached
    print(f'\npeak memory of a training step over that of Swin-T: {ratio:.3f}, at most {limit}')
    assert ratio <= limit
