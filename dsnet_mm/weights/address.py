"""Weights by address: ``dsnet://small_in1k`` in a config, as ``torchvision://resnet50``.

Importing this module registers the prefix with mmengine. Every place that accepts a checkpoint
then accepts an address: ``init_cfg``, ``load_from``, mmdet's own train script.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from dsnet_mm.errors import UserError

from .cache import cached_file, check_arch, fill
from .conversion import Conversion, check_target, convert, save
from .published_files import ARCHS, PREFIX, address_of


def local_file(address: str) -> Path:
    """Return the checkpoint of an address; download, verify and convert it on the first use.

    Raises:
        UserError: If the address is unknown, or its weights cannot be downloaded or stored.
    """
    arch = address.removeprefix(PREFIX).removesuffix('_in1k')
    if arch not in ARCHS or address != address_of(arch):
        raise UserError(
            f'{address} is unknown; use one of {", ".join(map(address_of, ARCHS))}, or the path of '
            'a checkpoint'
        )
    try:
        fill(arch)
    except UserError as error:
        raise UserError(f'{address} is not available: {error}') from error
    return cached_file(arch)


@CheckpointLoader.register_scheme(prefixes=PREFIX, force=True)
def load_from_dsnet(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load the checkpoint of an address for mmengine."""
    return torch.load(local_file(filename), map_location=map_location, weights_only=True)


@dataclass(frozen=True)
class Weights:
    """Weights that a config can use."""

    checkpoint: str  # what a config writes: an address, or the path of a checkpoint
    path: Path  # the checkpoint on this machine
    arch: str | None  # 'tiny', 'small', 'base', or None if the weights are of another DS-Net
    # what was converted, or None if the cache or ``path`` had the weights already
    conversion: Conversion | None

    def report(self) -> str:
        """Describe the conversion, and print the line that a config needs."""
        backbone = f"the backbone with arch='{self.arch}'" if self.arch else 'the backbone'
        return '\n'.join(
            [
                *([self.conversion.report()] if self.conversion else []),
                f'stored    {self.path}',
                '',
                f'In a config, in {backbone}:',
                f"  init_cfg=dict(type='Pretrained', checkpoint='{self.checkpoint}')",
            ]
        )


def get_weights(
    arch: str | None = None,
    source: str | Path | None = None,
    out: str | Path | None = None,
    url: str | None = None,
    ema: bool = False,
    force: bool = False,
) -> Weights:
    """Download or read published weights ahead of a training, and convert them.

    This is the work of ``dsnet-mm weights``. Without ``out`` it fills the cache; the address of
    ``arch`` then needs no connection.

    Args:
        arch: 'tiny', 'small' or 'base'. With ``source`` and ``out`` it may be None; the number of
            blocks then decides.
        source: A local file in either published format, instead of the download.
        out: Checkpoint to write; the suffix decides between ``.safetensors`` and ``torch.save``.
        url: Another address of the published file.
        ema: Whether to use ``model_ema`` of ``source`` instead of ``model``.
        force: Whether to replace ``out`` or, without ``out``, the cached weights.

    Raises:
        UserError: If options exclude each other, the file cannot be downloaded, read or converted,
            or the target cannot be written.
    """
    if source is None and ema:
        raise UserError('--ema requires --from FILE; the published files hold no average')
    if source is not None and url is not None:
        raise UserError('--from and --url exclude each other; leave out one of them')
    if source is not None and out is not None:
        target = Path(out)
        check_target(target, force, Path(source))
        conversion = convert(source, arch, ema)
        save(conversion.state_dict, conversion.meta, target)
        return Weights(str(out), target, conversion.meta['arch'], conversion)
    if arch is None:
        raise UserError(f'pass {", ".join(ARCHS)}, or convert a file by --from FILE --out FILE')
    if out is None:
        if source is not None:
            check_target(cached_file(arch), force, Path(source))
        filled = fill(arch, source, url, ema, force)
        return Weights(address_of(arch), cached_file(arch), arch, filled)
    target, filled = Path(out), None
    if target.is_file() and not force:
        check_arch(target, arch)
    else:
        check_target(target, force)
        filled = fill(arch, url=url)
        cached = torch.load(cached_file(arch), map_location='cpu', weights_only=True)
        save(cached['state_dict'], cached['meta'], target)
    return Weights(str(out), target, arch, filled)
