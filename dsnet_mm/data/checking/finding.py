"""Describe the outcome of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

EXAMPLES = 3
MOST_IMAGES = 100


@dataclass(frozen=True)
class Finding:
    """Hold the outcome of one check."""

    title: str  # the checked fault in the plural, such as 'boxes outside their image'
    count: int  # of faulty entries
    examples: tuple[str, ...] = ()
    advice: str = ''  # the effect in mmdet, and the remedy
    is_problem: bool = True  # a faulty entry makes the dataset faulty; otherwise this is a note
    images: tuple[int, ...] = ()  # indices of some affected images

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
    faulty: Sequence[Any] | np.ndarray,
    advice: str,
    describe: Callable[[Any], str] = repr,
    is_problem: bool = True,
    images: Iterable[int] = (),
) -> Finding:
    """Create a finding for faulty entries, and describe the first ones as examples."""
    examples = tuple(describe(entry) for entry in faulty[:EXAMPLES])
    known = (int(image) for image in images if image >= 0)
    return Finding(
        title, len(faulty), examples, advice, is_problem, tuple(islice(known, MOST_IMAGES))
    )
