"""Converting published weights into a checkpoint of mmpretrain's classifier."""

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
from dsnet_mm.version import __version__

from .fit import listing, misfit
from .safe_reader import Source, read_source
from .tensor_names import count_blocks, paddle_name, published_name

COUNTER = 'num_batches_tracked'  # of BatchNorm; Paddle keeps none
MAX_DEPTH = 200  # blocks in all; more is no DS-Net


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        target: The checkpoint.
        meta: What is recorded in it.
        matched: Tensors that were in the source, all of which were taken.
        has_average: Whether ``model_ema`` stands in the source beside what was taken.
    """

    target: Path
    meta: dict[str, Any]
    matched: int
    has_average: bool

    def report(self) -> str:
        """Describe the conversion in a few lines."""
        meta, average = self.meta, ''
        if self.has_average and 'ema' not in meta['part']:
            average = "; '--ema' takes the average of the weights instead"
        name = meta['arch'] or 'neither tiny, small nor base'
        depths = '-'.join(map(str, meta['depths']))
        return '\n'.join(
            [
                f'source    {meta["source"]}, {meta["format"]}, sha256 {meta["sha256"]}',
                f'weights   {meta["part"] or "the whole file"}{average}',
                f'arch      {name} (depths {depths}), {"with" if meta["align"] else "without"} '
                f'alignment, {meta["num_classes"]} classes',
                f'matched   {self.matched} of {self.matched} tensors',
                f'written   {self.target}',
            ]
        )


def config_line(checkpoint: str | Path) -> str:
    """Return what a config says to start from a checkpoint."""
    return f"init_cfg=dict(type='Pretrained', checkpoint='{checkpoint}')"


def convert(
    source: str | Path,
    target: str | Path,
    arch: str | None = None,
    ema: bool = False,
    force: bool = False,
) -> Conversion:
    """Convert a published weight file.

    The checkpoint is one of mmpretrain's ``ImageClassifier`` with the backbone ``DSNet``, the
    neck ``NormGlobalAveragePooling`` and a linear head. ``DSNet`` takes its own part of it.

    Args:
        source: A SteveTsui ``.pth`` or a PaddleClas ``.pdparams``.
        target: Checkpoint to write.
        arch: 'tiny', 'small' or 'base', if the source must be that; by default its depths say.
        ema: Whether to take ``model_ema`` instead of ``model``.
        force: Whether to write over ``target``.

    Raises:
        UserError: If ``source`` cannot be read safely or a tensor of it is missing, left over or
            of another shape, or ``target`` cannot be written. ``target`` is then as it was.
    """
    source, target = Path(source), Path(target)
    check_target(source, target, force)
    read = read_source(source, ema)
    depths = count_blocks(list(read.tensors))
    if not any(depths):
        raise UserError(
            f'{source} holds no tensors of a DS-Net in the published naming; give the '
            'file of SteveTsui/DS-Net or PaddleClas'
        )
    if arch is None:
        known = {zoo['depths']: name for name, zoo in DSNet.arch_zoo.items()}
        arch = known.get(depths)
    else:
        depths = DSNet.find_arch(arch)['depths']
    align = any('.cross_channel_up' in name for name in read.tensors)
    bias = read.tensors.get('head.bias')
    num_classes = len(bias) if bias is not None and bias.dim() == 1 else 1000
    classifier = classifier_skeleton(depths, align, num_classes, source)
    state_dict = match(classifier, read, source)
    meta = dict(
        source=source.name,
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
    save(dict(state_dict=state_dict, meta=meta), target)
    return Conversion(target, meta, len(read.tensors), read.has_average)


def classifier_skeleton(
    depths: tuple[int, ...], align: bool, num_classes: int, source: Path
) -> nn.ModuleDict:
    """Build what mmpretrain's classifier consists of, with its names and without memory."""
    if sum(depths) > MAX_DEPTH:
        raise UserError(
            f'{source} names {sum(depths)} blocks, more than any DS-Net has; give the '
            'file of SteveTsui/DS-Net or PaddleClas'
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


def match(classifier: nn.Module, source: Source, path: Path) -> dict[str, Tensor]:
    """Find every tensor of the classifier in the source, and use every tensor of the source.

    Paddle stores the weight of a fully connected layer as (in, out). Which layers these are is
    known from the classifier: the shape does not tell where in and out are equal.
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
        raise UserError(f'{path} does not fit a DS-Net; give another file or arch ({fault})')
    check_numbers(source.tensors, path)
    taken: Mapping[str, Tensor] = {name: source.tensors[rename(name)] for name in needed}
    return {
        name: torch.zeros((), dtype=torch.int64)
        if name not in needed
        else (taken[name].t() if name in linear else taken[name])
        .to(tensor.dtype)
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in classifier.state_dict().items()
    }


def check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are no finite real numbers."""
    faulty = [
        name
        for name, tensor in tensors.items()
        if not name.endswith(COUNTER)
        and not (tensor.is_floating_point() and tensor.isfinite().all())
    ]
    if faulty:
        raise UserError(
            f'{path} holds numbers that are not finite, or no real numbers, in '
            f'{listing(faulty)}; fetch it again'
        )


def check_target(source: Path, target: Path, force: bool) -> None:
    """Refuse a target that cannot be written or stands already, before any work is done."""
    try:
        if target.is_file() and source.exists() and target.samefile(source):
            raise UserError(f'{target} is the source itself; name another checkpoint to write')
        check_free(target, force)
    except OSError as error:
        raise UserError(
            f'{target} cannot be written; choose another place ({error.strerror})'
        ) from error


def save(checkpoint: dict[str, Any], target: Path) -> None:
    """Write a checkpoint whole or not at all."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    with written_whole(target) as draft:
        draft.write_bytes(content.getbuffer())
