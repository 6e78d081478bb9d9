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

from dsnet_mm.errors import UserError
from dsnet_mm.files import check_free, written_whole
from dsnet_mm.models import DSNet, NormGlobalAveragePooling
from dsnet_mm.models.strict_backbone import listing, misfit
from dsnet_mm.version import __version__

from .safe_reader import Source, read_source
from .safetensors_format import SUFFIX, check_installed, save_safetensors
from .tensor_names import count_blocks, paddle_name, published_name

COUNTER = 'num_batches_tracked'  # of BatchNorm; PaddlePaddle stores none
MAX_DEPTH = 200  # blocks in all stages; no DS-Net has more


@dataclass(frozen=True)
class Conversion:
    """Converted weights.

    Attributes:
        state_dict: All tensors of the classifier.
        meta: What the checkpoint records about its source and its model.
        matched: Number of tensors in the source, all of which were used.
        has_average: Whether the source also holds ``model_ema``.
    """

    state_dict: dict[str, Tensor]
    meta: dict[str, Any]
    matched: int
    has_average: bool

    def report(self) -> str:
        """Describe the source and the model in a few lines."""
        meta, average = self.meta, ''
        if self.has_average and 'ema' not in meta['part']:
            average = '; pass --ema to use the average of the weights instead'
        name = meta['arch'] or 'neither tiny, small nor base'
        depths = '-'.join(map(str, meta['depths']))
        return '\n'.join(
            [
                f'source    {meta["source"]}, {meta["format"]}, sha256 {meta["sha256"]}',
                f'weights   {meta["part"] or "the whole file"}{average}',
                f'arch      {name} (depths {depths}), {"with" if meta["align"] else "without"} '
                f'alignment, {meta["num_classes"]} classes',
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
        source: A ``.pth`` of SteveTsui/DS-Net or a ``.pdparams`` of PaddleClas.
        arch: 'tiny', 'small' or 'base', if the source must be that model. By default the number
            of its blocks decides.
        ema: Whether to use ``model_ema`` instead of ``model``.
        where: Name of the source in errors, such as a URL; by default its path.

    Raises:
        UserError: If ``source`` cannot be read safely, or one of its tensors is missing, left
            over or of another shape.
    """
    where = where or str(source)
    read = read_source(source, ema, where)
    depths = count_blocks(list(read.tensors))
    if not any(depths):
        raise UserError(
            f'{where} holds no tensors with the published names of a DS-Net; pass a file of '
            'SteveTsui/DS-Net or PaddleClas'
        )
    if arch is None:
        known = {zoo['depths']: name for name, zoo in DSNet.arch_zoo.items()}
        arch = known.get(depths)
    else:
        depths = DSNet.find_arch(arch)['depths']
    align = any('.cross_channel_up' in name for name in read.tensors)
    bias = read.tensors.get('head.bias')
    num_classes = len(bias) if bias is not None and bias.dim() == 1 else 1000
    classifier = classifier_skeleton(depths, align, num_classes, where)
    state_dict = match(classifier, read, where)
    meta = dict(
        source=Path(source).name,
        sha256=read.sha256,
        format=read.format,
        part=read.part,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        arch=arch,
        depths=list(depths),
        align=align,
        num_classes=num_classes,
        dsnet_mm_version=__version__,
    )
    return Conversion(state_dict, meta, len(read.tensors), read.has_average)


def classifier_skeleton(
    depths: tuple[int, ...], align: bool, num_classes: int, where: str
) -> nn.ModuleDict:
    """Build the parts of mmpretrain's classifier under its names, without memory for weights."""
    if sum(depths) > MAX_DEPTH:
        raise UserError(
            f'{where} names {sum(depths)} blocks, more than any DS-Net has; pass a file of '
            'SteveTsui/DS-Net or PaddleClas'
        )
    arch = dict(DSNet.arch_zoo['tiny'], depths=[max(1, depth) for depth in depths])
    width = arch['embed_dims'][-1]
    with torch.device('meta'):
        return nn.ModuleDict(
            dict(
                backbone=DSNet(arch, align=align),
                neck=NormGlobalAveragePooling(width),
                head=nn.ModuleDict(dict(fc=nn.Linear(width, num_classes))),
            )
        )


def match(classifier: nn.Module, source: Source, where: str) -> dict[str, Tensor]:
    """Find every tensor of the classifier in the source, and use every tensor of the source.

    PaddlePaddle stores the weight of a linear layer as (in, out). The classifier says which
    layers are linear; the shape cannot, where in and out are equal.
    """
    is_paddle = source.format == 'PaddlePaddle'
    linear = (
        {
            f'{name}.weight'
            for name, module in classifier.named_modules()
            if isinstance(module, nn.Linear)
        }
        if is_paddle
        else set()
    )
    needed = {
        name: tensor
        for name, tensor in classifier.state_dict().items()
        if not (is_paddle and name.endswith(COUNTER))
    }
    rename = paddle_name if is_paddle else published_name
    fault = misfit(
        {
            rename(name): tensor.t().shape if name in linear else tensor.shape
            for name, tensor in needed.items()
        },
        {name: tensor.shape for name, tensor in source.tensors.items()},
    )
    if fault:
        raise UserError(f'{where} does not fit a DS-Net; pass another file or arch ({fault})')
    check_numbers(source.tensors, where)
    taken: Mapping[str, Tensor] = {name: source.tensors[rename(name)] for name in needed}
    return {
        name: torch.zeros((), dtype=torch.int64)
        if name not in needed
        else (taken[name].t() if name in linear else taken[name])
        .to(tensor.dtype)
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in classifier.state_dict().items()
    }


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
