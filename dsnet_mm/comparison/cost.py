"""Count parameters and MACs, and measure latency, of the detectors of a suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dsnet_mm.analysis.benchmark import Setting, Spread, benchmark
from dsnet_mm.analysis.building import build_model
from dsnet_mm.analysis.macs import count_model_macs, count_parameters

from .suites import Entry
from .summary import Cost

ROUNDS = 10


def count_costs(
    entries: Sequence[Entry],
    size: tuple[int, int],
    latency: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> dict[str, Cost]:
    """Count parameters and MACs, and optionally measure the latency.

    Latency is the median time of a prediction of one image, decoding and NMS included, in float32
    on a GPU if there is one. All detectors are measured in turns. The size is height and width in
    pixels. The result has the labels of the entries as keys.
    """
    seconds: dict[str, float] = {}
    if latency and entries:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        setting = Setting('detector', *size, device=device)
        names = [str(entry.config) for entry in entries]
        (results,) = benchmark(names, [setting], ROUNDS, memory=False, report=report)
        for entry, result in zip(entries, results, strict=True):
            seconds[entry.label] = Spread.of(result.seconds).median
    costs = {}
    for entry in entries:
        report(f'counting {entry.label}')
        model = build_model(entry.config)
        costs[entry.label] = Cost(
            count_parameters(model).whole,
            count_model_macs(model, *size).whole,
            seconds.get(entry.label),
        )
    return costs
