"""From the name of a published model to a checkpoint that a config can name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from dsnet_mm.errors import UserError

from .conversion import Conversion, convert
from .download import download
from .published_files import PUBLISHED
from .safe_reader import read_bytes


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
    with one; every later use of the file is compared with the first, also of one that was fetched
    by hand under its published name.

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
    name = Path(PUBLISHED[arch].url).name
    record = target.parent / f'{name}.sha256'
    if source is not None:
        is_published = Path(source).name == name
        if is_published:
            check_hash(Path(source), record)
        conversion = convert(source, target, arch, force=force)
        if is_published:
            record_hash(record, name, conversion.meta['sha256'])
        return conversion
    if target.is_file() and not force:
        check_arch(target, arch)
        return None
    fetched = target.parent / name
    if fetched.exists():
        print(f'{fetched} is there from an earlier fetch; delete it to fetch it anew')
    else:
        download(url or PUBLISHED[arch].url, fetched)
    check_hash(fetched, record)
    try:
        conversion = convert(fetched, target, arch, force=force)
    except UserError as error:
        raise UserError(f'{error}; {fetched} was kept, delete it to fetch it anew') from error
    record_hash(record, name, conversion.meta['sha256'])
    return conversion


def check_arch(checkpoint: Path, arch: str) -> None:
    """Check that a checkpoint that stands already is a converted one of this arch."""
    try:
        stored = torch.load(checkpoint, map_location='cpu', weights_only=True, mmap=True)
        found = stored['meta']['arch'] if isinstance(stored, dict) else None
    except Exception:  # a foreign file can fail in any way
        found = None
    if found != arch:
        raise UserError(
            f'{checkpoint} stands already and is not the converted {arch} model; move '
            'it away, or give --force to write over it'
        )


def record_hash(record: Path, name: str, sha256: str) -> None:
    """Record the hash of a fetched file that was converted."""
    try:
        record.write_text(f'{sha256}  {name}\n')
    except OSError as error:
        raise UserError(
            f'{record} cannot be written, so that later fetches cannot be compared '
            f'with this one; free some space and run the same command with --force '
            f'({error.strerror})'
        ) from error


def check_hash(fetched: Path, record: Path) -> None:
    """Compare a fetched file with the hash of the first fetch, if there was one."""
    if not record.exists():
        return
    found = hashlib.sha256(read_bytes(fetched)).hexdigest()
    try:
        recorded = record.read_text(errors='replace').split()
    except OSError as error:
        raise UserError(
            f'{record} cannot be read, make it readable or delete it ({error.strerror})'
        ) from error
    if recorded[:1] != [found]:
        raise UserError(
            f'{fetched} is not the file of the first fetch, whose SHA-256 is in {record}: it '
            'was damaged or published anew; fetch it again in its place, or delete the record to '
            'accept what is published now'
        )
