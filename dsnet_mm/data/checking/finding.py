"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        title: What was looked for, in the plural: 'boxes outside their image'.
        count: How many there are; 0 is as it should be.
        examples: A few of them, in words.
        advice: What happens to them in mmdet, and what to do.
        is_problem: Whether any of them makes the set faulty; a note does not.
        images: Places of some images concerned.
    """

    title: str
    count: int
    examples: tuple[str, ...] = ()
    advice: str = ''
    is_problem: bool = True
    images: tuple[int, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the set is faulty by this."""
        return self.is_problem and self.count > 0

    def sentence(self) -> str:
        """What is wrong, where, and what to do."""
        examples = f', such as {"; ".join(self.examples)}' if self.examples else ''
        # the name of a library keeps its small letter
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
    """Make a finding of the entries at ``places``, the first of which ``describe`` names."""
    return Finding(
        title=title,
        count=len(places),
        examples=tuple(describe(int(place)) for place in places[:EXAMPLES]),
        advice=advice,
        is_problem=is_problem,
        images=tuple(islice((int(image) for image in images if image >= 0), 100)),
    )
