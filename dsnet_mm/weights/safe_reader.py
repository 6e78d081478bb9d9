"""Reading published weight files of both formats, safely."""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsnet_mm.errors import UserError

from .fit import printable
from .paddle_reader import PickledArray, read_arrays

ZIP_START = b'PK\x03\x04'
OLD_TORCH_START = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # torch.save before PyTorch 1.6
PICKLE_START = b'\x80'
MAX_BYTES = 4 * 2**30  # the base model with its optimizer and its average is below 1 GB

WEIGHTS = ('model', 'state_dict')
AVERAGES = ('model_ema', 'state_dict_ema')
PADDLE_NOTES = 'StructuredToParameterName@@'


class Source(NamedTuple):
    """What a published file holds.

    Attributes:
        tensors: Its tensors on the CPU under its own names, laid out as its format does.
        format: 'PyTorch' or 'PaddlePaddle'.
        part: The entry that the tensors are from, such as 'model'; '' if the file has no entries.
        has_average: Whether an average of the weights (EMA) stands beside them.
        sha256: Of the file.
    """

    tensors: dict[str, Tensor]
    format: str
    part: str
    has_average: bool
    sha256: str


def read_source(path: str | Path, ema: bool = False) -> Source:
    """Read a SteveTsui ``.pth`` or a PaddleClas ``.pdparams``, told apart by their content.

    Args:
        path: The file.
        ema: Whether to take the average of the weights, ``model_ema``, instead of ``model``.

    Raises:
        UserError: If the file is absent, damaged, of another kind, or asks to run something.
    """
    content = read_bytes(Path(path))
    if content.startswith((ZIP_START, OLD_TORCH_START)):
        file_format, entries = 'PyTorch', read_torch(content, str(path))
    elif content.startswith(PICKLE_START):
        file_format, entries = 'PaddlePaddle', read_arrays(content, str(path))
        entries.pop(PADDLE_NOTES, None)
    else:
        raise UserError(
            f'{path} is neither a PyTorch nor a PaddlePaddle weight file, it may be '
            'the page of a web site; fetch it again'
        )
    has_average = any(name in entries for name in AVERAGES)
    entries, part = unwrap(entries, ema, path)
    tensors, claimed = {}, 0
    for name, entry in strip_module(entries).items():
        tensor = tensors[name] = to_tensor(entry, name, path)
        claimed += tensor.numel() * tensor.element_size()
        if claimed > len(content):  # one that is stretched, or one that is named many times
            raise UserError(
                f'{path} is refused, for its tensors as far as {printable(name)} claim to be '
                'larger than the file; fetch it again'
            )
    return Source(tensors, file_format, part, has_average, hashlib.sha256(content).hexdigest())


def read_bytes(path: Path) -> bytes:
    """Read a whole file, after a look at what it is."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f'{path} is not a file; give the path of a .pth or .pdparams file')
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise UserError(
                f'{path} has {size} bytes, which no DS-Net weight file has; fetch it again'
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f'{path} cannot be read, give the path of a .pth or .pdparams file ({error.strerror})'
        ) from error


def read_torch(content: bytes, where: str) -> dict[Any, Any]:
    """Read what ``torch.save`` wrote, tensors and plain values only.

    The training scripts of the DeiT family keep their arguments in the file, an
    ``argparse.Namespace``, which holds attributes and does nothing.
    """
    if not hasattr(torch.serialization, 'safe_globals'):
        raise UserError(
            f'{where} cannot be read safely by torch {torch.__version__}; convert it where torch '
            'is 2.5 or later, the result serves older ones too'
        )
    try:
        if content.startswith(ZIP_START):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > len(content):  # torch.save does not compress
                raise UserError(
                    f'{where} is refused, for it unpacks to {unpacked} bytes, more '
                    'than it has; fetch it again'
                )
        with torch.serialization.safe_globals([argparse.Namespace]):
            entries = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        asked = re.search(r'GLOBAL ([\w.]+)', str(error))
        if asked:
            raise UserError(
                f'{where} is refused, for it asks for {printable(asked[1])} where a weight file '
                'needs tensors and plain values only; nothing of it was run'
            ) from error
        raise UserError(
            f'{where} cannot be read as a PyTorch file: it is damaged, cut short, or made for '
            'something else; fetch it again'
        ) from error
    if not isinstance(entries, dict):
        raise UserError(
            f'{where} holds a {type(entries).__name__} where a checkpoint holds a dict '
            'of tensors; fetch it again'
        )
    return entries


def unwrap(entries: dict[Any, Any], ema: bool, path: str | Path) -> tuple[dict[Any, Any], str]:
    """Find the weights inside a checkpoint; return them and the entries passed on the way."""
    order = AVERAGES if ema else (*WEIGHTS, *AVERAGES)
    passed: list[str] = []
    while len(passed) < len(WEIGHTS) + len(AVERAGES):
        name = next((name for name in order if isinstance(entries.get(name), dict)), None)
        if name is None:
            break
        passed.append(name)
        entries, order = entries[name], WEIGHTS
    if ema and not passed:
        raise UserError(f'{path} holds no {" or ".join(AVERAGES)}; convert it without --ema')
    return entries, '.'.join(passed)


def strip_module(entries: dict[Any, Any]) -> dict[Any, Any]:
    """Cut the ``module.`` that a parallel wrapper put before every name."""
    prefix = 'module.'
    if all(isinstance(name, str) and name.startswith(prefix) for name in entries):
        return {name[len(prefix) :]: entry for name, entry in entries.items()}
    return entries


def to_tensor(entry: Any, name: Any, path: str | Path) -> Tensor:
    """Check that an entry is a plain tensor or array with a name, and return it as a tensor."""
    if isinstance(entry, PickledArray) and entry.value is not None:
        array = entry.value
        entry = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder('=')))
    is_plain = (
        isinstance(entry, Tensor)
        and entry.layout == torch.strided
        and entry.device.type == 'cpu'
        and not entry.is_quantized
    )
    if not isinstance(name, str) or not is_plain:
        raise UserError(
            f'{path} holds a {type(entry).__name__} at {printable(str(name))} where a '
            'weight file holds tensors by name; it is not of a DS-Net'
        )
    return entry.detach()
