"""Find class names that look misspelled, and classes with few objects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that differ only in case, blanks, or one or two letters.

    Names that differ in digits, such as 'size 1' and 'size 2', are meant to differ. Of short names,
    only one letter in four may differ.
    """
    return [(one, two) for one, two in combinations(names, 2) if _is_similar(one, two)]


# A class is rare below FEW objects, if the median of the classes with objects exceeds FREQUENT.
FEW, FREQUENT = 10, 100


def rare_classes(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return which of N classes are rare (N,), given their numbers of objects."""
    numbers = np.asarray(counts, dtype=int)
    typical = np.median(numbers[numbers > 0]) if numbers.any() else 0
    return (numbers > 0) & (numbers < FEW) & (typical > FREQUENT)


def _is_similar(one: str, two: str) -> bool:
    first, second = (''.join(name.casefold().split()) for name in (one, two))
    if first == second:
        return True
    letters = max(len(first), len(second))
    if [c for c in first if c.isdigit()] != [c for c in second if c.isdigit()]:
        return False
    return _distance(first, second) <= min(2, letters // 4)


def _distance(one: str, two: str) -> int:
    """Return how many letters to insert, delete, replace or swap to get the other word."""
    rows = [list(range(len(two) + 1))]
    for i, a in enumerate(one, start=1):
        above, row = rows[-1], [i]
        for j, b in enumerate(two, start=1):
            steps = [above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)]
            if i > 1 and j > 1 and (a, b) == (two[j - 2], one[i - 2]):
                steps.append(rows[-2][j - 2] + 1)
            row.append(min(steps))
        rows.append(row)
    return rows[-1][-1]
