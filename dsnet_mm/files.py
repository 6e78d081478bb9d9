"""Check places for files, and write files completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def as_folder(path: str | Path) -> str:
    """Return a path with a slash at its end, because configs append file names to folders."""
    return os.path.join(path, '')


def common_folder(folders: Sequence[str | Path]) -> str:
    """Return the folder that contains all folders: the first, or else one above.

    The result is relative like the first folder, unless it is above the current folder.
    """
    first = str(folders[0])
    found = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    if found == os.path.abspath(first):
        return first
    here = os.getcwd()
    inside = os.path.commonpath([here, found]) == here and not os.path.isabs(first)
    return os.path.relpath(found) if inside else found


def path_within(folder: str | Path, path: str | Path) -> str:
    """Return a path relative to a folder that contains it, or else the absolute path."""
    there, inside = os.path.abspath(folder), os.path.abspath(path)
    if os.path.commonpath([there, inside]) == there:
        return Path(os.path.relpath(inside, there)).as_posix()
    return inside


def make_folder(path: str | Path, option: str) -> None:
    """Create a folder unless it exists, and check by writing that it is writable.

    Args:
        path: The folder.
        option: The option that chooses another folder, such as ``--work-dir``.

    Raises:
        UserError: If the folder cannot be created or is not writable.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b'1')
    except OSError as error:
        in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = 'a file has its name or that of a parent' if in_the_way else error.strerror
        raise UserError(
            f'the folder {path} is not writable ({reason}); fix that, or pass another folder as '
            f'{option}'
        ) from error


def check_folder(path: Path) -> None:
    """Check that a folder is writable or can be created, without creating it.

    Raises:
        UserError: If the folder is not writable or cannot be created.
    """
    there = path
    while not os.path.lexists(there):  # ends at the root or the current folder
        there = there.parent
    if not os.path.isdir(there):
        above = (
            'is not a folder' if there == path else f'cannot be created: {there} is not a folder'
        )
        raise UserError(f'{path} {above}; choose another folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f'{there} is not writable; change its permissions or choose another folder')


def check_free(path: Path, force: bool) -> None:
    """Check that a file can be written and that it replaces no other file without ``force``.

    Raises:
        UserError: If the file exists, is a folder, or its folder is not writable.
    """
    if path.is_dir():
        raise UserError(f'{path} is a folder; choose a file')
    if path.exists() and not force:
        raise UserError(f'{path} already exists; choose another file or pass --force')
    check_folder(path.parent)


def check_empty(folder: Path, option: str, force: bool | None = None) -> None:
    """Check that a folder can be written and that it holds no files without ``force``.

    Args:
        folder: The folder; it may be missing.
        option: The option that chooses another folder, such as ``--out``.
        force: Whether --force was passed; None if the command has no such option.

    Raises:
        UserError: If the folder holds files, is not writable or cannot be created.
    """
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not force:
        advice = '' if force is None else ', or pass --force to overwrite them'
        raise UserError(f'{folder} already holds files; pass another folder as {option}{advice}')


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and move the file to ``path`` unless the block fails.

    Raises:
        UserError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.partial.', dir=path.parent) as folder:
            draft = Path(folder) / path.name
            yield draft
            os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f'{path} cannot be written; free some space or choose another folder ({error.strerror})'
        ) from error
