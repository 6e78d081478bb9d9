"""Summarize the finished runs of a detector: means and spreads over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .suites import Entry
from .work_dir_reader import Run, State


@dataclass(frozen=True)
class Summary:
    """Mean of some values."""

    mean: float  # NaN if there are no values
    spread: float | None  # sample standard deviation; None for fewer than two values
    count: int  # number of values

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Summary:
        """Summarize the values that are known."""
        there = [value for value in values if value is not None and math.isfinite(value)]
        if not there:
            return cls(math.nan, None, 0)
        spread = statistics.stdev(there) if len(there) > 1 else None
        return cls(statistics.fmean(there), spread, len(there))


def pooled_spread(summaries: Iterable[Summary]) -> float | None:
    """Return the standard deviation of all values about the mean of their own summary.

    Summaries of fewer than two values do not count. Without any other, the result is None.
    """
    several = [(each.count - 1, each.spread) for each in summaries if each.spread is not None]
    freedom = sum(degrees for degrees, _ in several)
    squares = sum(degrees * spread**2 for degrees, spread in several)
    return math.sqrt(squares / freedom) if freedom else None


@dataclass(frozen=True)
class Cost:
    """The cost of a detector."""

    parameters: int
    macs: int  # multiply-accumulates of one image of the suite's size, as executed
    latency: float | None = None  # seconds of a prediction of one such image; None if not measured


@dataclass(frozen=True)
class Result:
    """A detector and its runs."""

    entry: Entry
    runs: Sequence[Run]  # all of its runs, also those that do not count
    cost: Cost | None = None  # None if not counted

    @property
    def finished(self) -> list[Run]:
        """The runs that count."""
        return [run for run in self.runs if run.state is State.FINISHED]

    def ap(self, kind: str, figure: str = 'mAP') -> Summary:
        """Summarise one of :data:`~.work_dir_reader.FIGURES` of 'box' or 'mask' AP, in percent."""
        return Summary.of(run.ap.get(kind, {}).get(figure) for run in self.finished)

    @property
    def seconds(self) -> Summary:
        """Summarise the training time."""
        return Summary.of(run.seconds for run in self.finished)

    @property
    def memory(self) -> float | None:
        """Peak memory of a GPU in MB, the highest of all runs; None on a CPU."""
        return max((run.memory for run in self.finished if run.memory is not None), default=None)
