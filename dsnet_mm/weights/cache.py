"""Converted weights on this machine: download or read once, verify, convert and store."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from dsnet_mm.errors import UserError

from .conversion import Conversion, convert, save
from .published_files import MIRROR, PADDLE_CLAS, DownloadError, download, file_name, url_of
from .safetensors_format import SUFFIX, read_safetensors


def cached_file(arch: str) -> Path:
    """Return the path of the converted weights of 'tiny', 'small' or 'base' in the cache.

    The cache is torch.hub's folder of checkpoints, where mmengine stores ``torchvision://`` and
    ``https://`` weights too. One setting, ``TORCH_HOME``, then moves the weights of DS-Net
    together with those of the other backbones. ``MMENGINE_HOME`` moves none of them.
    """
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'dsnet_{arch}_in1k.pth'


def fill(
    arch: str,
    source: str | Path | None = None,
    url: str | None = None,
    ema: bool = False,
    force: bool = False,
) -> Conversion | None:
    """Put the converted weights of an arch into the cache, unless the cache has them.

    Several processes may call this function at once. One process downloads; the others wait for
    that process. Each file appears complete or not at all.

    PaddleClas publishes no hashes, therefore nothing can be compared with the first download. Its
    SHA-256 is recorded in the cache, in the format of ``sha256sum``. Later files with the
    published name must have the same hash.

    The arguments are those of :func:`~.address.get_weights`.

    Returns:
        The conversion, or None if the cache had the weights.

    Raises:
        UserError: If the file cannot be downloaded, read, converted or stored, or is not the file
            of the first download.
    """
    target = cached_file(arch)
    if target.is_file() and not force:
        check_arch(target, arch)
        return None
    with only_process(target):
        if target.is_file() and not force:  # another process was faster
            return None
        if source is not None:
            return store(Path(source), arch, target, str(source), ema)
        url = url or url_of(arch)
        with tempfile.TemporaryDirectory(prefix='.partial.', dir=target.parent) as folder:
            fetched = Path(folder) / file_name(arch)
            try:
                download(url, fetched)
            except DownloadError as error:
                raise UserError(
                    f'{error}; check the connection, set {MIRROR} to a folder on a server that '
                    f'has this file, or open {PADDLE_CLAS}/{file_name(arch)} in a browser and run '
                    f'`dsnet-mm weights {arch} --from FILE`'
                ) from error
            return store(fetched, arch, target, url)


def store(source: Path, arch: str, target: Path, where: str, ema: bool = False) -> Conversion:
    """Verify and convert a file, and write the result into the cache."""
    conversion = convert(source, arch, ema, where)
    sha256 = conversion.meta['sha256']
    if not conversion.meta['align']:
        raise UserError(
            f'{where} has no inter-scale alignment, and the published {arch} model has; pass --out '
            'FILE to convert it elsewhere'
        )
    is_published = source.name == file_name(arch)
    record = target.with_name(f'{file_name(arch)}.sha256')
    if (
        is_published
        and record.exists()
        and record.read_text(errors='replace').split()[:1] != [sha256]
    ):
        raise UserError(
            f'{where} is not the file of the first download, whose SHA-256 is in {record}; '
            'download it again, or delete the record to accept the file that is published now'
        )
    save(conversion.state_dict, conversion.meta, target)
    if is_published:
        record.write_text(f'{sha256}  {source.name}\n')
    return conversion


def check_arch(checkpoint: Path, arch: str) -> None:
    """Check that an existing checkpoint is complete and holds converted weights of an arch.

    Raises:
        UserError: If it is not.
    """
    try:
        if checkpoint.suffix == SUFFIX:
            stored = read_safetensors(checkpoint)
        else:
            stored = torch.load(checkpoint, map_location='cpu', weights_only=True, mmap=True)
        found = stored['meta']['arch'] if isinstance(stored, dict) else None
    except Exception:  # a foreign file can fail in any way
        found = None
    if found != arch:
        raise UserError(
            f'{checkpoint} already exists and is not the converted {arch} model; move it away, or '
            f'run `dsnet-mm weights {arch}` with --force to replace it'
        )


@contextmanager
def only_process(target: Path) -> Iterator[None]:
    """Make the folder of ``target``, and let one process at a time work on ``target``.

    Raises:
        UserError: If the folder cannot be written to.
    """
    lock = target.with_name(f'.{target.name}.lock')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, 'w') as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f'{error.filename or target.parent} cannot be read or written ({error.strerror}); '
            'free some space, or set TORCH_HOME to another folder'
        ) from error
