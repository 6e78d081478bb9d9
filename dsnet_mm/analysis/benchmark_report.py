"""Format benchmark results as Markdown, JSON and a plot; ratios precede absolute figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from dsnet_mm.errors import counted

from .benchmark import Result, Spread
from .tables import markdown

HEADER = [
    'Candidate',
    'M parameters',
    'G MACs',
    'time, ratio',
    'images/s, ratio',
    'memory, ratio',
    'time / MACs at matmul rate',
    'time in ms',
    'images/s',
    'memory in MB',
]


def to_markdown(groups: Sequence[Sequence[Result]]) -> str:
    """Return a Markdown table for each setting, with ratios to its first candidate."""
    parts = [describe_machine(groups[0][0])]
    for group in groups:
        setting = group[0].setting
        title = (
            f'{setting.part}, {setting.height}x{setting.width}, batch {setting.batch}, '
            f'{setting.dtype}{", channels-last" if setting.channels_last else ""}; median '
            f'(quartiles) of {len(group[0].seconds)} rounds, ratios to {group[0].name}'
        )
        parts += [title, markdown(HEADER, [_row(result, group[0]) for result in group])]
    return '\n\n'.join(parts)


def to_json(groups: Sequence[Sequence[Result]]) -> dict:
    """Return all measurements in SI units, and the ratios to each setting's first candidate."""
    return dict(
        machine=describe_machine(groups[0][0]),
        results=[
            dict(
                asdict(result),
                throughput=result.throughput,
                time_ratio=asdict(result.time_against(group[0])),
                memory_ratio=_memory_ratio(result, group[0]),
                product_ratio=result.against_product and asdict(result.against_product),
                reference=group[0].name,
            )
            for group in groups
            for result in group
        ],
    )


def describe_machine(result: Result) -> str:
    """Describe the device and the PyTorch version of a measurement."""
    device = result.setting.device
    if device.startswith('cuda'):
        where = torch.cuda.get_device_name(device)
    else:
        load = os.getloadavg()[0]
        threads = counted(torch.get_num_threads(), 'thread')
        where = f'CPU {platform.machine()}, {threads}, load {load:.1f}'
    return f'Measured on {where}, torch {torch.__version__}.'


def plot(groups: Sequence[Sequence[Result]], path: str | Path) -> None:
    """Plot time and memory: bars for one setting, curves over the pixels for several."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    axes = figure.subplots(1, 2)
    draw = _draw_bars if len(groups) == 1 else _draw_curves
    draw(axes, groups)
    figure.suptitle(describe_machine(groups[0][0]), fontsize='small')
    with matplotlib.rc_context({'svg.hashsalt': 'dsnet-mm'}):
        figure.savefig(path, dpi=120)


def _draw_bars(axes: Sequence, groups: Sequence[Sequence[Result]]) -> None:
    """Plot the ratios to the first candidate, with quartiles of the times."""
    (group,) = groups
    names = [result.name for result in group]
    spreads = [result.time_against(group[0]) for result in group]
    errors = [[s.median - s.lower for s in spreads], [s.upper - s.median for s in spreads]]
    axes[0].barh(names, [s.median for s in spreads], xerr=errors)
    axes[0].set_xlabel(f'time, ratio to {names[0]}')
    axes[1].barh(names, [_memory_ratio(result, group[0]) or 0 for result in group])
    axes[1].set_xlabel(f'peak memory above the model, ratio to {names[0]}')
    for axis in axes:
        axis.invert_yaxis()
        axis.axvline(1, color='black', linewidth=0.8)


def _draw_curves(axes: Sequence, groups: Sequence[Sequence[Result]]) -> None:
    """Plot time and memory of a batch over its pixels, on logarithmic axes."""
    groups = sorted(groups, key=_pixels)
    for results in zip(*groups, strict=True):
        pixels = [_pixels(group) for group in groups]
        spreads = [Spread.of(result.seconds) for result in results]
        axes[0].plot(pixels, [s.median for s in spreads], marker='o', label=results[0].name)
        axes[0].fill_between(
            pixels, [s.lower for s in spreads], [s.upper for s in spreads], alpha=0.2
        )
        if results[0].peak_bytes:
            axes[1].plot(pixels, [result.peak_bytes / 1e6 for result in results], marker='o')
    axes[0].set_ylabel('seconds')
    axes[0].legend()
    axes[1].set_ylabel('peak memory above the model in MB')
    for axis in axes:
        axis.set(xscale='log', yscale='log', xlabel='pixels of the batch')
        axis.xaxis.set_minor_formatter(NullFormatter())  # whose labels overlap


def _pixels(group: Sequence[Result]) -> int:
    setting = group[0].setting
    return setting.height * setting.width * setting.batch


def _row(result: Result, reference: Result) -> list[str]:
    memory_ratio = _memory_ratio(result, reference)
    milliseconds = Spread.of([1e3 * seconds for seconds in result.seconds])
    return [
        result.name,
        f'{result.parameters / 1e6:.2f}',
        '-' if result.macs is None else f'{result.macs / 1e9:.2f}',
        _spread(result.time_against(reference)),
        f'{result.throughput / reference.throughput:.2f}',
        '-' if memory_ratio is None else f'{memory_ratio:.2f}',
        '-' if result.against_product is None else _spread(result.against_product),
        _spread(milliseconds, 1),
        f'{result.throughput:.2f}',
        '-' if result.peak_bytes is None else f'{result.peak_bytes / 1e6:.0f}',
    ]


def _memory_ratio(result: Result, reference: Result) -> float | None:
    ours, others = result.peak_bytes, reference.peak_bytes
    return ours / others if ours is not None and others else None


def _spread(spread: Spread, digits: int = 2) -> str:
    return f'{spread.median:.{digits}f} ({spread.lower:.{digits}f}-{spread.upper:.{digits}f})'
