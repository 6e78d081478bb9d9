"""Convert published weights into a checkpoint of mmpretrain's classifier."""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsnet_mm.errors import UserError, listing
from dsnet_mm.files import check_free, written_whole
from dsnet_mm.models.strict_backbone import misfit
from dsnet_mm.version import __version__

from .published_models import PublishedModel, recognize
from .safe_reader import Source, read_source
from .safetensors_format import SUFFIX, check_installed, save_safetensors

COUNTER = 'num_batches_tracked'  # of BatchNorm; PaddlePaddle stores none


@dataclass(frozen=True)
class Conversion:
    """Converted weights."""

    state_dict: dict[str, Tensor]  # all tensors of the classifier
    meta: dict[str, Any]  # what the checkpoint records about its source and its model
    matched: int  # number of tensors in the source, all of which were used
    has_average: bool  # whether the source also holds ``model_ema``

    def report(self) -> str:
        """Describe the source and the model in a few lines."""
        meta, average = self.meta, ''
        if self.has_average and 'ema' not in meta['part']:
            average = '; pass --ema to use the average of the weights instead'
        name = meta['arch'] or 'none of the published ones'
        depths = '-'.join(map(str, meta['depths']))
        align = {True: ', with alignment', False: ', without alignment', None: ''}[meta['align']]
        return '\n'.join(
            [
                f'source    {meta["source"]}, {meta["format"]}, sha256 {meta["sha256"]}',
                f'weights   {meta["part"] or "the whole file"}{average}',
                f'model     {meta["family"]}, arch {name} (depths {depths}){align}, '
                f'{meta["num_classes"]} classes',
                f'matched   {self.matched} of {self.matched} tensors',
            ]
        )


def convert(
    source: str | Path, arch: str | None = None, ema: bool = False, where: str | None = None
) -> Conversion:
    """Convert a published weight file.

    The result is a checkpoint of mmpretrain's ``ImageClassifier`` with the backbone ``DSNet``, the
    neck ``NormGlobalAveragePooling`` and a linear head. ``DSNet`` loads its own part of it.

    Args:
        source: A ``.pth`` of SteveTsui/DS-Net or of rayleizhu/GLMix, or a ``.pdparams`` of
            PaddleClas.
        arch: 'tiny', 'small' or 'base', if the source must be that DS-Net. By default the tensors
            decide.
        ema: Whether to use ``model_ema`` instead of ``model``.
        where: Name of the source in errors, such as a URL; by default its path.

    Raises:
        UserError: If ``source`` cannot be read safely, or one of its tensors is missing, left
            over or of another shape.
    """
    where = where or str(source)
    read = read_source(source, ema, where)
    model = recognize(read, arch, where)
    state_dict = match(model, read, where)
    meta = dict(
        source=Path(source).name,
        sha256=read.sha256,
        format=read.format,
        part=read.part,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        **model.facts,
        dsnet_mm_version=__version__,
    )
    return Conversion(state_dict, meta, len(read.tensors), read.has_average)


def match(published: PublishedModel, source: Source, where: str) -> dict[str, Tensor]:
    """Find every tensor of the classifier in the source, and use every tensor of the source.

    PaddlePaddle stores the weight of a linear layer as (in, out). The classifier says which
    layers are linear; the shape cannot, where in and out are equal.
    """
    is_paddle = source.format == 'PaddlePaddle'
    classifier, rename = published.classifier, published.rename
    linear = {
        f'{name}.weight'
        for name, module in classifier.named_modules()
        if is_paddle and isinstance(module, nn.Linear)
    }
    model = classifier.state_dict()
    counters = {name for name in model if is_paddle and name.endswith(COUNTER)}
    needed = {
        rename(name): tensor.t().shape if name in linear else tensor.shape
        for name, tensor in model.items()
        if name not in counters
    }
    fault = misfit(needed, {name: tensor.shape for name, tensor in source.tensors.items()})
    if fault:
        raise UserError(
            f'{where} does not fit a {published.family}; pass another file or arch ({fault})'
        )
    check_numbers(source.tensors, where)
    state_dict = {}
    for name, tensor in model.items():
        if name in counters:
            state_dict[name] = torch.zeros((), dtype=torch.int64)
            continue
        found = source.tensors[rename(name)]
        found = found.t() if name in linear else found
        state_dict[name] = found.to(tensor.dtype).clone(memory_format=torch.contiguous_format)
    return state_dict


def check_numbers(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not finite real numbers."""
    faulty = [
        name
        for name, tensor in tensors.items()
        if not name.endswith(COUNTER)
        and not (tensor.is_floating_point() and tensor.isfinite().all())
    ]
    if faulty:
        raise UserError(
            f'{where} holds numbers that are not finite, or no real numbers, in '
            f'{listing(faulty)}; download it again'
        )


def check_target(target: Path, force: bool, source: Path | None = None) -> None:
    """Refuse a target that cannot be written or already exists, before any work is done."""
    try:
        if source and target.is_file() and source.exists() and target.samefile(source):
            raise UserError(f'{target} is the source itself; choose another file to write')
        check_free(target, force)
    except OSError as error:
        raise UserError(
            f'{target} cannot be written; choose another file ({error.strerror})'
        ) from error
    if target.suffix == SUFFIX:
        check_installed(target)


def save(state_dict: dict[str, Tensor], meta: dict[str, Any], target: Path) -> None:
    """Write a checkpoint completely or not at all, in the format of the suffix of ``target``."""
    checkpoint = dict(state_dict=state_dict, meta=meta)
    with written_whole(target) as draft:
        if target.suffix == SUFFIX:
            save_safetensors(checkpoint, draft)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        draft.write_bytes(content.getbuffer())
