"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


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
