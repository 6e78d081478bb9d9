"""Hold what a conversion wrote, and remark on its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from dsnet_mm.data.class_names import FEW, rare_classes, similar_names
from dsnet_mm.errors import counted, listing

MOST_NAMES = 5  # classes in a remark


@dataclass(frozen=True)
class Written:
    """Count the content of a written annotation file."""

    path: Path
    images: int
    empty: int  # images without objects
    objects: int  # crowds included
    crowds: int
    by_class: Counter[str]  # objects, crowds included


@dataclass(frozen=True)
class Conversion:
    """Describe a finished conversion."""

    data_root: str  # folder to which file names are relative
    classes: tuple[str, ...]  # in the order of all files
    written: tuple[Written, ...]
    remarks: tuple[str, ...]  # assumptions and omissions, without a full stop


def class_remarks(classes: Sequence[str], written: Sequence[Written]) -> list[str]:
    """Return remarks on classes without objects, rare classes and similar names."""
    total = sum((file.by_class for file in written), Counter())
    remarks = []
    if missing := [name for name in classes if not total[name]]:
        names = listing([*map(repr, missing)], MOST_NAMES)
        remarks.append(f'no object has the class {names}')
    for file in written:
        if absent := [name for name in classes if total[name] and not file.by_class[name]]:
            remarks.append(
                f'{file.path.name} has no object of {listing([*map(repr, absent)], MOST_NAMES)}'
            )
    if rare := [*compress(classes, rare_classes([total[name] for name in classes]))]:
        numbers = ', '.join(f'{name!r} ({total[name]})' for name in rare[:MOST_NAMES])
        remarks.append(
            f'{counted(len(rare), "class has", "classes have")} fewer than {FEW} objects: {numbers}'
        )
    for one, two in similar_names(classes)[:MOST_NAMES]:
        remarks.append(
            f'the classes {one!r} ({counted(total[one], "object")}) and {two!r} '
            f'({counted(total[two], "object")}) have similar names; correct the labels if they '
            'mean the same'
        )
    return remarks
