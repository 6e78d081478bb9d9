"""Checkpoints as ``.safetensors``: written by this package, and read by mmengine through it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from dsnet_mm.errors import UserError

SUFFIX = '.safetensors'
META = 'dsnet_mm'  # key in the header; a header holds strings only


def check_installed(path: str | Path) -> None:
    """Check that this environment can read and write ``.safetensors``.

    Raises:
        UserError: If the package safetensors is missing.
    """
    if find_spec('safetensors') is None:
        raise UserError(
            f'{path} requires the package safetensors; run `pip install safetensors`, or use a '
            'file that ends in .pth'
        )


def save_safetensors(checkpoint: dict[str, Any], path: Path) -> None:
    """Write the tensors of a checkpoint, and its ``meta`` as JSON in the header."""
    from safetensors.torch import save_file

    header = {'format': 'pt', META: json.dumps(checkpoint['meta'])}
    save_file(checkpoint['state_dict'], path, header)


def read_safetensors(path: str | Path, map_location: Any = None) -> dict[str, Any]:
    """Read a ``.safetensors`` file, which holds tensors and strings only.

    Returns:
        ``state_dict`` and ``meta``; ``meta`` is empty if another program wrote the file.

    Raises:
        UserError: If the file is damaged, or the package safetensors is missing.
    """
    check_installed(path)
    from safetensors import SafetensorError, safe_open

    device = str(map_location) if isinstance(map_location, (str, torch.device)) else 'cpu'
    try:
        with safe_open(path, 'pt', device) as file:
            state_dict = {name: file.get_tensor(name) for name in file.keys()}
            meta = json.loads((file.metadata() or {}).get(META, '{}'))
    except (SafetensorError, ValueError) as error:
        raise UserError(f'{path} is not a whole .safetensors file; write it anew') from error
    return dict(state_dict=state_dict, meta=meta)


@CheckpointLoader.register_scheme(prefixes=rf'(?!.*://).*\{SUFFIX}$', force=True)
def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a local ``.safetensors`` for mmengine, which knows files of ``torch.save`` only."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    return read_safetensors(path, map_location)
