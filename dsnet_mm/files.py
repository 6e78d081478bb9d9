"""Files that are written whole or not at all, and whether there is a place for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def make_folder(path: str | Path, option: str) -> None:
    """Make a folder unless it stands, and look whether files can be written there.

    Args:
        path: The folder.
        option: Names another one, such as ``--work-dir``.

    Raises:
        UserError: If a file is in the way, or the system lets nothing be written there.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b'1')
    except OSError as error:
        in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = 'a file is in its place or above it' if in_the_way else error.strerror
        raise UserError(
            f'nothing can be written to the folder {path} ({reason}); mend that, or name another '
            f'folder by {option}'
        ) from error


def check_place(path: Path) -> None:
    """Look whether a file can be written, before the work whose outcome it is to hold.

    Raises:
        UserError: If its folder is missing or is not to be written to.
    """
    if not path.parent.is_dir():
        raise UserError(
            f'{path} cannot be written; choose another place or make the folder {path.parent}'
        )
    check_folder(path.parent)


def check_folder(path: Path) -> None:
    """Look whether ``path`` can take files, or can become a folder that does; nothing is made.

    Raises:
        UserError: If it cannot.
    """
    there = path
    while not os.path.lexists(there):  # at the latest, the root or the current folder is there
        there = there.parent
    if not os.path.isdir(there):
        above = '' if there == path else f' cannot be made, since {there}'
        raise UserError(f'{path}{above} is no folder; name another one')
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f'{there} is not to be written to; allow it or name another folder')


def check_free(path: Path, force: bool) -> None:
    """Refuse to write over a file without being asked to, or over a folder at all.

    Raises:
        UserError: If ``path`` stands already.
    """
    if path.is_dir():
        raise UserError(f'{path} is a folder; name a file')
    if path.exists() and not force:
        raise UserError(f'{path} stands already; name another file, or give --force')


def check_empty(folder: Path, option: str, force: bool | None = None) -> None:
    """Refuse to write into a folder with files in it without being asked to.

    Args:
        folder: The folder; it may be missing.
        option: Names another one, such as ``--out``.
        force: Whether --force was given; None if the tool has no such option.

    Raises:
        UserError: If ``folder`` holds files, or cannot be made or written to.
    """
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not force:
        advice = '' if force is None else ', or give --force to write over them'
        raise UserError(f'{folder} holds files already; name another folder by {option}{advice}')


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``path`` at the end if all went well.

    Raises:
        UserError: If the system does not allow it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.partial.', dir=path.parent) as folder:
            draft = Path(folder) / path.name
            yield draft
            os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f'{path} cannot be written; free some space or choose another place ({error.strerror})'
        ) from error
