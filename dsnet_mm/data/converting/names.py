"""Read the names of files and folders in datasets: splits, stems, and what belongs together."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path, PureWindowsPath

from dsnet_mm.data.file_finder import IMAGES

SPLITS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'validate', 'eval'),
    'test': ('test', 'testing'),
}
"""Names of each split in datasets."""


def split_named(name: str) -> str | None:
    """Return the split that a word such as 'Train', 'valid' or 'test2017' names, or None."""
    word = re.sub(r'[\s_-]*(19|20)\d\d$', '', name.strip().lower())
    return next((split for split, names in SPLITS.items() if word in names), None)


def split_within(name: str) -> str | None:
    """Return the split whose name is one of the words of a longer name, or None."""
    words = re.split(r'[^a-z]+', name.lower())
    return next((split for word in words if (split := split_named(word))), None)


def stem_of(name: str, suffixes: Collection[str] = IMAGES) -> str:
    """Return a file name without folders of any system and without one of the suffixes."""
    name = PureWindowsPath(name.strip()).name
    suffix = os.path.splitext(name)[1]
    return name[: -len(suffix)] if suffix and suffix.lower() in suffixes else name


def resolve(entry: str, bases: Sequence[Path]) -> Path | None:
    """Return the file or folder that a text file of a dataset names, or None if it is missing.

    The entry is relative to one of the bases, or absolute. As lists often are relative to a folder
    above or come from another machine, its leading folders are removed one by one.
    """
    for text in dict.fromkeys((entry, entry.replace('\\', '/'))):
        if found := next(filter(Path.exists, (base / text for base in bases)), None):
            return found
    parts = [part for part in PureWindowsPath(entry).parts if part not in ('..', '/', '\\')]
    parts = parts[1:] if parts and parts[0].rstrip('\\/').endswith(':') else parts
    splits = [split_named(part) for part in parts]
    for start in range(len(parts)):
        if any(splits[:start]) and not any(splits[start:]):
            return None  # the rest would mix the splits
        rest = parts[start:]
        if found := next(filter(Path.exists, (base.joinpath(*rest) for base in bases)), None):
            return found
        if found := next(filter(None, (_in_any_case(base, rest) for base in bases)), None):
            return found
    return None


def _in_any_case(base: Path, parts: Sequence[str]) -> Path | None:
    """Return the only path below a folder that differs from the parts in case only, or None."""
    places = [base]
    for part in parts:
        places = [
            place / name
            for place in places
            for name in _names(place, _changed(place)).get(part.casefold(), ())
        ]
    return places[0] if len(places) == 1 else None


def _changed(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


@cache
def _names(folder: Path, changed: int) -> dict[str, list[str]]:
    """Return the names in a folder by their lower case; it is listed again after a change."""
    names: dict[str, list[str]] = {}
    if folder.is_dir():
        for name in sorted(os.listdir(folder)):
            names.setdefault(name.casefold(), []).append(name)
    return names


def nearest(path: Path, candidates: Sequence[Path], root: Path) -> list[Path]:
    """Return the files that can belong to a file by the names of their folders.

    Files of another split are left out. If several remain, those remain whose folder differs in one
    name only.
    """
    split = _split_of(path, root)
    fitting = [one for one in candidates if not split or _split_of(one, root) in (split, None)]
    if len(fitting) < 2:
        return fitting
    return [other for other in fitting if _is_parallel(path.parent, other.parent)] or fitting


def _split_of(path: Path, root: Path) -> str | None:
    folders = Path(os.path.relpath(path.parent, root)).parts
    return next(filter(None, map(split_named, folders[::-1])), None)


def _is_parallel(one: Path, two: Path) -> bool:
    """Return whether two folders differ in one name that is replaced, added or left out."""
    first, second = one.parts, two.parts
    same = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    start = min(len(first), len(second)) if same is None else same
    rests = first[start:], second[start:]
    return rests[0][1:] == rests[1][1:] or rests[0][1:] == rests[1] or rests[0] == rests[1][1:]
