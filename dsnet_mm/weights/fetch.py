"""From the name of a published model to a checkpoint that a config can name."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import torch

from dsnet_mm.errors import UserError

from .convert import Conversion, convert
from .download import download
from .published import PUBLISHED


def get_weights(
    arch: str,
    target: str | Path | None = None,
    source: str | Path | None = None,
    url: str | None = None,
    force: bool = False,
) -> Conversion | None:
    """Fetch and convert the published weights of a model.

    The published file is kept beside the checkpoint, and its SHA-256 beside it in turn, in the
    format of ``sha256sum``. PaddleClas publishes no hashes, so the first fetch cannot be compared
    with one; every later use of the file is compared with the first.

    Args:
        arch: 'tiny', 'small' or 'base'.
        target: Checkpoint to write; by default the one that the configs name.
        source: A file fetched by hand, in either published format, instead of fetching it.
        url: Another address of the same file.
        force: Whether to write over ``target``.

    Returns:
        What was converted, or None if ``target`` stood already.

    Raises:
        UserError: If the file cannot be fetched, read or converted, or is another one than before.
    """
    target = Path(target or PUBLISHED[arch].checkpoint)
    if source is not None:
        return convert(source, target, arch, force=force)
    if target.is_file() and not force:
        check_arch(target, arch)
        return None
    url = url or PUBLISHED[arch].url
    fetched = target.parent / Path(PUBLISHED[arch].url).name
    if not fetched.exists():
        download(url, fetched)
    check_hash(fetched)
    try:
        conversion = convert(fetched, target, arch, force=force)
    except UserError as error:
        raise UserError(f'{error}; {fetched} was kept, delete it to fetch it anew') from error
    record_hash(fetched, conversion.meta['sha256'])
    return conversion


def check_arch(checkpoint: Path, arch: str) -> None:
    """Check that a checkpoint that stands already is a converted one of this arch."""
    try:
        meta = torch.load(checkpoint, map_location='cpu', weights_only=True, mmap=True)['meta']
        found = meta['arch']
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError):
        found = None
    if found != arch:
        raise UserError(
            f'{checkpoint} stands already and is not the converted {arch} model; move '
            'it away, or give --force to write over it'
        )


def record_of(fetched: Path) -> Path:
    """Where the hash of a fetched file is recorded."""
    return fetched.with_name(f'{fetched.name}.sha256')


def record_hash(fetched: Path, sha256: str) -> None:
    """Record the hash of a fetched file that was converted."""
    try:
        record_of(fetched).write_text(f'{sha256}  {fetched.name}\n')
    except OSError as error:
        raise UserError(
            f'{record_of(fetched)} cannot be written, so that later fetches cannot be compared '
            f'with this one; free some space and run the same command with --force '
            f'({error.strerror})'
        ) from error


def check_hash(fetched: Path) -> None:
    """Compare a fetched file with the hash of the first fetch, if there was one."""
    record = record_of(fetched)
    if not record.exists():
        return
    found = hashlib.sha256(fetched.read_bytes()).hexdigest()
    if record.read_text().split()[:1] != [found]:
        raise UserError(
            f'{fetched} is not the file of the first fetch, whose SHA-256 is in {record.name}: it '
            'was damaged or published anew; delete it to fetch it again, or delete both to accept '
            'what is published now'
        )
