"""Keep a second training out of a work dir."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dsnet_mm.errors import UserError

LOCK = '.training'  # file in a work dir while a training runs there

_held: set[TextIO] = set()  # locks of this process


@contextmanager
def only_training_in(work_dir: str | Path, rank: int = 0) -> Iterator[None]:
    """Lock an existing work dir for one training; the process of rank 0 holds the lock.

    Raises:
        UserError: If another process trains there.
    """
    with open(Path(work_dir) / LOCK, 'a+', encoding='utf-8') as file:
        if rank == 0:
            _lock(file, work_dir)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)


def _close_in_child() -> None:
    """Keep a process that loads data from holding the lock after the training was killed."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_in_child)


def _lock(file: TextIO, work_dir: str | Path) -> None:
    try:
        # the system releases the lock when the process ends, however it ends
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise UserError(
            f'{work_dir} is in use by a training of process {file.read().strip() or "?"}; wait '
            'until that training ends, or pass another folder as --work-dir'
        ) from error
    except OSError:
        return  # a file system without locks
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
