"""The ratios of time and memory in docs/performance.md, measured anew by `make bench`.

The file name keeps this file out of `make test`, because a measurement of time beside other work
proves nothing. All candidates of a ratio take turns in one run.

Each ratio has two numbers. The regression limit is the measured ratio with a margin, and a test
fails beyond it. The target is what the project aims at. It is reported, met or missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from dsnet_mm.analysis.benchmark import Result, Setting, benchmark

ON_GPU = torch.cuda.is_available()
COMMON = dict(device='cuda', dtype='bfloat16') if ON_GPU else {}


@dataclass(frozen=True)
class Goal:
    """A documented ratio, lower is better.

    Attributes:
        ratio: What is divided by what.
        limit: The regression limit on a CPU. On a GPU, nothing was measured yet.
        target: The aim on any device.
        gpu_target: The aim on a GPU, if it differs.
    """

    ratio: str
    limit: float
    target: float
    gpu_target: float | None = None


TIME_OVER = {
    'published_dsnet_s': Goal('time over the published formulation', 0.4, 0.25),
    'swin_t': Goal('time over the Swin-T backbone', 1.5, 1.0),
}
TIME_OVER_PRODUCT = Goal('time over a matrix product with as many MACs', 2.1, 1.2)
MEMORY = Goal('peak memory over the published formulation', 0.2, 0.35, gpu_target=0.2)
ALIGNMENT = Goal('time at 224x224 over the model without alignment', 1.5, 1 / 0.88)
TRAINING = Goal('peak memory of a training step of RetinaNet over Swin-T', 0.85, 0.9)


def check(goal: Goal, ratio: float) -> None:
    """Report ``ratio`` against the target, and fail beyond the regression limit."""
    target = goal.gpu_target if ON_GPU and goal.gpu_target else goal.target
    verdict = 'met' if ratio <= target else 'missed'
    limit = 'none on a GPU' if ON_GPU else goal.limit
    print(f'\n{goal.ratio}: {ratio:.3f}, limit {limit}, target {target:.3g} {verdict}')
    assert ON_GPU or ratio <= goal.limit


def measure(names: list[str], setting: Setting, **kwargs) -> dict[str, Result]:
    (results,) = benchmark(names, [setting], **kwargs)
    return {result.name: result for result in results}


@pytest.fixture(scope='module')
def large() -> dict[str, Result]:
    """The backbones on an image of a detector's size."""
    setting = Setting('backbone', 800, 1344, **COMMON)
    return measure(['dsnet_s', 'published_dsnet_s', 'swin_t'], setting)


@pytest.mark.parametrize('other', TIME_OVER)
def test_time(large, other):
    check(TIME_OVER[other], large['dsnet_s'].time_against(large[other]).median)


@pytest.mark.skipif(ON_GPU, reason='defined for CPUs')
def test_time_against_its_arithmetic(large):
    check(TIME_OVER_PRODUCT, large['dsnet_s'].against_product.median)


def test_memory(large):
    check(MEMORY, large['dsnet_s'].peak_bytes / large['published_dsnet_s'].peak_bytes)


def test_time_of_alignment():
    setting = Setting('backbone', 224, 224, batch=64 if ON_GPU else 16, **COMMON)
    results = measure(['dsnet_s', 'dsnet_s_noalign'], setting, memory=False)
    check(ALIGNMENT, results['dsnet_s'].time_against(results['dsnet_s_noalign']).median)


def test_memory_of_training():
    setting = Setting('train', 800, 1344, batch=2, **COMMON)
    results = measure(['dsnet_s', 'swin_t'], setting, rounds=1, warmup=0)
    check(TRAINING, results['dsnet_s'].peak_bytes / results['swin_t'].peak_bytes)
