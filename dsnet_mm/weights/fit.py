"""Comparing the tensors of a file with those that a model needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SHOWN = 4  # names written out per kind of fault
LONGEST = 120  # characters written out of a name, of which a DS-Net needs a third


def misfit(needed: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]) -> str:
    """Name what does not fit, in words that end a sentence.

    Args:
        needed: Shapes of the model's tensors by name.
        given: Shapes of the file's tensors by name.

    Returns:
        Such as ``missing: a.weight, a.bias; left over: b.bias``, or '' if all tensors fit.
    """
    missing = [name for name in needed if name not in given]
    left_over = [name for name in given if name not in needed]
    reshaped = [
        f'{name} {tuple(given[name])} instead of {tuple(needed[name])}'
        for name in needed
        if name in given and tuple(given[name]) != tuple(needed[name])
    ]
    faults = {'missing': missing, 'left over': left_over, 'of another shape': reshaped}
    return '; '.join(f'{fault}: {listing(names)}' for fault, names in faults.items() if names)


def listing(names: Sequence[str]) -> str:
    """Write out the first names and count the others."""
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(map(printable, names[:SHOWN])) + more


def printable(name: str) -> str:
    """Return a name from a file as it is, or escaped and cut if a terminal should not get it."""
    return name if name.isprintable() and len(name) <= LONGEST else f'{ascii(name)[:LONGEST]}...'
