"""Read published weight files of both formats, without running anything in them."""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsnet_mm.errors import UserError, printable

from .paddle_reader import PickledArray, read_arrays

ZIP_START = b'PK\x03\x04'
OLD_TORCH_START = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # torch.save before PyTorch 1.6
PICKLE_START = b'\x80'
MAX_BYTES = 4 * 2**30  # the base model with its optimizer and its average has less than 1 GB

# Classes of training settings in weight files, beside argparse.Namespace. The public GLNet script
# stores an omegaconf.DictConfig.
SETTINGS = """
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig
    omegaconf.base.ContainerMetadata omegaconf.base.Metadata
    omegaconf.nodes.AnyNode omegaconf.nodes.BooleanNode omegaconf.nodes.FloatNode
    omegaconf.nodes.IntegerNode omegaconf.nodes.StringNode
    typing.Any
""".split()
PLAIN = (dict, list, tuple, str, int, float, bool)  # types that settings name
WEIGHTS = ('model', 'state_dict')
AVERAGES = ('model_ema', 'state_dict_ema')
PADDLE_NOTES = 'StructuredToParameterName@@'


class Ignored:
    """Replace a class of settings, and ignore everything that the file assigns to it."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def ignored_defaultdict(*_: Any) -> dict[Any, Any]:
    """Replace ``collections.defaultdict``: PyTorch writes entries only into plain dicts."""
    return {}


# PyTorch finds the stand-ins by the names of what they stand for.
ignored_defaultdict.__module__, ignored_defaultdict.__qualname__ = 'collections', 'defaultdict'
STAND_INS: list[Callable[..., Any]] = [
    ignored_defaultdict,
    *(
        type(name.rpartition('.')[2], (Ignored,), {'__module__': name.rpartition('.')[0]})
        for name in SETTINGS
    ),
]


class Source(NamedTuple):
    """The contents of a published file."""

    tensors: dict[str, Tensor]  # the tensors on the CPU, with the names and the layout of the file
    format: str  # 'PyTorch' or 'PaddlePaddle'
    part: str  # the entry that holds the tensors, such as 'model'; '' if the file has no entries
    has_average: bool  # whether the file also holds an average of the weights (EMA)
    sha256: str  # of the file


def read_source(path: str | Path, ema: bool = False, where: str | None = None) -> Source:
    """Read a SteveTsui ``.pth`` or a PaddleClas ``.pdparams``; the content decides which.

    Args:
        path: The file.
        ema: Whether to read the average of the weights, ``model_ema``, instead of ``model``.
        where: Name of the file in errors; by default its path.

    Raises:
        UserError: If the file is missing, damaged, of another kind, or asks to run something.
    """
    where = where or str(path)
    content = read_bytes(Path(path), where)
    if content.startswith((ZIP_START, OLD_TORCH_START)):
        file_format, entries = 'PyTorch', read_torch(content, where)
    elif content.startswith(PICKLE_START):
        file_format, entries = 'PaddlePaddle', read_arrays(content, where)
        entries.pop(PADDLE_NOTES, None)
    else:
        raise UserError(
            f'{where} is neither a PyTorch nor a PaddlePaddle weight file, it may be '
            'the page of a web site; download it again'
        )
    has_average = any(name in entries for name in AVERAGES)
    entries, part = unwrap(entries, ema, where)
    tensors, claimed = {}, 0
    for name, entry in strip_module(entries).items():
        tensor = tensors[name] = to_tensor(entry, name, where)
        claimed += tensor.numel() * tensor.element_size()
        if claimed > len(content):  # a tensor that is expanded, or has many names
            raise UserError(
                f'{where} is refused, because its tensors up to {printable(name)} claim to be '
                'larger than the file; download it again'
            )
    return Source(tensors, file_format, part, has_average, hashlib.sha256(content).hexdigest())


def read_bytes(path: Path, where: str) -> bytes:
    """Read a whole file, after a check of its kind and its size."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f'{where} is not a file; pass the path of a .pth or .pdparams file')
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise UserError(
                f'{where} has {size} bytes, which no published weight file has; download it again'
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f'{where} cannot be read; pass the path of a .pth or .pdparams file ({error.strerror})'
        ) from error


def read_torch(content: bytes, where: str) -> dict[Any, Any]:
    """Read a file of ``torch.save``; accept tensors and plain values only.

    Training scripts store their settings in the file, as an ``argparse.Namespace``, which holds
    attributes and runs nothing, or as objects that are read as :class:`Ignored`.
    """
    if not hasattr(torch.serialization, 'safe_globals'):
        raise UserError(
            f'{where} cannot be read safely by torch {torch.__version__}; convert it with torch '
            '2.5 or later, older versions can load the result'
        )
    try:
        if content.startswith(ZIP_START):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > len(content):  # torch.save does not compress
                raise UserError(
                    f'{where} is refused, because it unpacks to {unpacked} bytes, more than '
                    'its size; download it again'
                )
        with torch.serialization.safe_globals([argparse.Namespace, *PLAIN, *STAND_INS]):
            entries = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        asked = re.search(r'GLOBAL ([\w.]+)', str(error))
        if asked:
            raise UserError(
                f'{where} is refused, because it asks for {printable(asked[1])}, and a weight file '
                'needs tensors and plain values only; nothing of it was run'
            ) from error
        raise UserError(
            f'{where} cannot be read as a PyTorch file: it is damaged, cut short, or of another '
            'kind; download it again'
        ) from error
    if not isinstance(entries, dict):
        raise UserError(
            f'{where} holds a {type(entries).__name__}, and a checkpoint holds a dict of tensors; '
            'download it again'
        )
    return entries


def unwrap(entries: dict[Any, Any], ema: bool, where: str) -> tuple[dict[Any, Any], str]:
    """Find the weights inside a checkpoint; return them and the names of the outer entries."""
    order = AVERAGES if ema else (*WEIGHTS, *AVERAGES)
    passed: list[str] = []
    while len(passed) < len(WEIGHTS) + len(AVERAGES):
        name = next((name for name in order if isinstance(entries.get(name), dict)), None)
        if name is None:
            break
        passed.append(name)
        entries, order = entries[name], WEIGHTS
    if ema and not passed:
        raise UserError(f'{where} holds no {" or ".join(AVERAGES)}; leave out --ema')
    return entries, '.'.join(passed)


def strip_module(entries: dict[Any, Any]) -> dict[Any, Any]:
    """Remove the ``module.`` that a parallel wrapper puts before every name."""
    prefix = 'module.'
    if all(isinstance(name, str) and name.startswith(prefix) for name in entries):
        return {name[len(prefix) :]: entry for name, entry in entries.items()}
    return entries


def to_tensor(entry: Any, name: Any, where: str) -> Tensor:
    """Return an entry as a tensor, if the entry is a plain tensor or array with a name."""
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
            f'{where} holds a {type(entry).__name__} at {printable(str(name))}, and a weight file '
            'holds tensors with names; pass a published weight file'
        )
    return entry.detach()
