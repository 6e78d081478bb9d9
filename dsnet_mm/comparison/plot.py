"""Plot AP against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .suites import Part, Suite
from .summary import Result

COSTS = {
    'G MACs': lambda result: result.cost.macs / 1e9 if result.cost else None,
    'training in hours': lambda result: (
        result.seconds.mean / 3600 if result.seconds.count else None
    ),
}
MARKERS = {'FPN': 'o', 'DS-FPN': 's'}


def plot(suite: Suite, results: Mapping[str, Result], path: str | Path) -> None:
    """Draw box AP against MACs and against training time, a row of axes for each table.

    Error bars are the sample standard deviation over the runs. At least one run must be finished.
    """
    parts = [
        (part, rows)
        for part in suite.parts
        if (rows := [results[e.label] for e in part.entries if results[e.label].finished])
    ]
    models = list(dict.fromkeys(entry.model for entry in suite.entries))
    figure = Figure(figsize=(11, 1 + 3.6 * len(parts)), layout='constrained')
    grid = figure.subplots(len(parts), len(COSTS), squeeze=False, sharey='row')
    for axes, (part, rows) in zip(grid, parts, strict=True):
        _draw(axes, part, rows, models)
    figure.savefig(path, dpi=120)


def _draw(
    row: Sequence[Axes], part: Part, results: Sequence[Result], models: Sequence[str]
) -> None:
    """Draw one part; colors show models, markers show necks."""
    for axes, (name, cost) in zip(row, COSTS.items(), strict=True):
        for result in results:
            x, ap = cost(result), result.ap('box')
            if x is None:
                continue
            axes.errorbar(
                x,
                ap.mean,
                yerr=ap.spread,
                fmt=MARKERS[result.entry.neck],
                color=f'C{models.index(result.entry.model)}',
                capsize=4,
                label=f'{result.entry.model}, {result.entry.neck}',
            )
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    row[0].set_ylabel('box AP')
    row[0].set_title(part.title, loc='left')
    row[-1].legend(fontsize='small', loc='center left', bbox_to_anchor=(1.01, 0.5))
