"""Find files by suffix and name, in any case and through symbolic links."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

WRITABLE = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
"""Suffixes of images that predictions can be drawn into."""

IMAGES = (*WRITABLE, '.jpe', '.jfif', '.gif', '.pgm', '.ppm', '.jp2')
"""Suffixes of images that mmdet reads."""


def files_below(folder: Path, suffixes: Collection[str], deep: bool = True) -> list[Path]:
    """Return the files in a folder and its subfolders, sorted.

    A symbolic link whose target is missing counts as a file. Hidden subfolders, and what macOS adds
    to archives, are left out.

    Args:
        folder: The folder; it may be missing.
        suffixes: Suffixes in lower case.
        deep: Whether to search the subfolders.
    """
    return sorted(
        path
        for path in _entries_below(folder, deep)
        if path.suffix.lower() in suffixes
        and not path.name.startswith('._')
        and (path.is_file() or path.is_symlink())
    )


def broken_links(folder: Path) -> list[Path]:
    """Return the symbolic links in a folder and its subfolders whose target is missing, sorted."""
    return sorted(path for path in _entries_below(folder) if not path.exists())


def _entries_below(folder: Path, deep: bool = True) -> Iterator[Path]:
    """Yield what is no folder in a folder and in its searched subfolders."""
    for place, folders, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names)
        folders[:] = [name for name in folders if deep and _is_searched(Path(place, name))]


class Counterparts:
    """Find the files that belong to others, such as the label files of images.

    Args:
        suffixes: Suffixes of the wanted files, in lower case.
        old: Names of the folders of the other files, in lower case.
        new: Names of the folders of the wanted files, in lower case and in order of preference;
            '' is the folder above.
    """

    def __init__(self, suffixes: Collection[str], old: Collection[str], new: Sequence[str]) -> None:
        self._suffixes, self._old, self._new = suffixes, old, new
        # each folder is listed only once
        self.files = cache(self._files)
        self.folders = cache(self._folders)

    def _files(self, folder: Path) -> dict[str, list[Path]]:
        """Return the wanted files in a folder by name without suffix, which may be ambiguous."""
        files: dict[str, list[Path]] = {}
        for path in files_below(folder, self._suffixes, deep=False):
            files.setdefault(path.stem, []).append(path)
        return files

    def _folders(self, folder: Path) -> list[Path]:
        """Return the folders that correspond to ``folder``, as labels/a corresponds to images/a."""
        parts = folder.parts
        place = next((i for i in reversed(range(len(parts))) if parts[i].lower() in self._old), -1)
        above = Path(*parts[:place])
        if place < 0 or not above.is_dir():
            return []
        siblings = sorted(above.iterdir())
        named = {
            name: [path for path in siblings if path.name.lower() == name] if name else [above]
            for name in self._new
        }
        found = (path for paths in named.values() for path in paths)
        return [folder for path in found for folder in _below(path, parts[place + 1 :])]


def _below(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the subfolders of a folder at the end of a path, in the exact case if possible."""
    places = [folder]
    for name in names:
        exact = [path / name for path in places if (path / name).is_dir()]
        places = exact or [
            path
            for above in places
            if above.is_dir()
            for path in sorted(above.iterdir())
            if path.name.lower() == name.lower() and path.is_dir()
        ]
    return places


def _is_searched(folder: Path) -> bool:
    hidden = folder.name.startswith('.') or folder.name == '__MACOSX'
    return not hidden and not _leads_back(folder)


def _leads_back(folder: Path) -> bool:
    """Return whether a folder is a symbolic link to a folder on the way to the link."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    if folder.parent.resolve().is_relative_to(target):
        return True
    return any(place.resolve() == target for place in folder.parents)
