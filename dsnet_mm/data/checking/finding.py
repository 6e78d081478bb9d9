"""Describe the outcome of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """Hold the outcome of one check.

    Attributes:
        title: The checked fault in the plural, such as 'boxes outside their image'.
        count: The number of faulty entries.
        examples: Descriptions of a few faulty entries.
        advice: The effect in mmdet, and the remedy.
        is_problem: Whether a faulty entry makes the dataset faulty; otherwise this is a note.
        images: Indices of some affected images.
    """

    title: str
    count: int
    examples: tuple[str, ...] = ()
    advice: str = ''
    is_problem: bool = True
    images: tuple[int, ...] = ()

    @property
    def fails(self) -> bool:
        """Return whether this finding makes the dataset faulty."""
        return self.is_problem and self.count > 0

    def sentence(self) -> str:
        """Return the fault, examples, and the remedy."""
        examples = f', such as {"; ".join(self.examples)}' if self.examples else ''
        # mmdet keeps its lower-case initial
        first = self.advice[:1] if self.advice.startswith('mmdet') else self.advice[:1].upper()
        return f'{self.title}: {self.count}{examples}. {first}{self.advice[1:]}.'


def finding(
    title: str,
    places: Sequence[int],
    describe: Callable[[int], str],
    advice: str,
    is_problem: bool = True,
    images: Iterable[int] = (),
) -> Finding:
    """Create a finding for the entries at ``places``, with examples from ``describe``."""
    return Finding(
        title=title,
        count=len(places),
        examples=tuple(describe(int(place)) for place in places[:EXAMPLES]),
        advice=advice,
        is_problem=is_problem,
        images=tuple(islice((int(image) for image in images if image >= 0), 100)),
    )
