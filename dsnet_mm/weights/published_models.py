"""Recognize the model of a published weight file by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dsnet_mm.errors import ConfigError, UserError
from dsnet_mm.models import DSNet, GLNet, NormGlobalAveragePooling
from dsnet_mm.models.staged_backbone import StagedBackbone

from .safe_reader import Source
from .tensor_names import count_blocks, glnet_name, paddle_name, published_name

DSNET_BLOCKS = 'blocks1. blocks2. blocks3. blocks4.'
GLNET_BLOCKS = 'stages.0.blocks. stages.1.blocks. stages.2.blocks. stages.3.blocks.'
MAX_DEPTH = 200  # blocks in all stages; no published model has more


class PublishedModel(NamedTuple):
    """The classifier that a weight file belongs to."""

    family: str  # 'DS-Net' or 'GLNet'
    classifier: nn.ModuleDict  # mmpretrain's names, without memory for weights
    rename: Callable[[str], str]  # from mmpretrain's names to those in the file
    facts: dict[str, Any]  # what a converted checkpoint records


def recognize(source: Source, arch: str | None, where: str) -> PublishedModel:
    """Return the model that a file belongs to.

    Args:
        source: The file.
        arch: 'tiny', 'small' or 'base', if the file must be that DS-Net.
        where: Name of the file in errors.

    Raises:
        UserError: If the names of the tensors belong to neither a DS-Net nor a GLNet.
    """
    bias = source.tensors.get('head.bias')
    num_classes = len(bias) if bias is not None and bias.dim() == 1 else 1000
    if any(name.startswith('downsample_layers.') for name in source.tensors) and arch is None:
        return recognize_glnet(source.tensors, num_classes, where)
    return recognize_dsnet(source, arch, num_classes, where)


def recognize_dsnet(
    source: Source, arch: str | None, num_classes: int, where: str
) -> PublishedModel:
    """Return the DS-Net that a file belongs to."""
    depths = count_blocks(DSNET_BLOCKS, source.tensors)
    if not any(depths):
        raise UserError(
            f'{where} holds no tensors with the published names of a DS-Net or GLNet; pass a file '
            'of SteveTsui/DS-Net, PaddleClas or rayleizhu/GLMix'
        )
    if arch is None:
        known = {zoo['depths']: name for name, zoo in DSNet.arch_zoo.items()}
        arch = known.get(tuple(depths))
    else:
        depths = list(DSNet.find_arch(arch)['depths'])
    align = any('.cross_channel_up' in name for name in source.tensors)
    classifier = dsnet_classifier(depths, align, num_classes, where)
    rename = paddle_name if source.format == 'PaddlePaddle' else published_name
    facts = dict(arch=arch, depths=depths, align=align, num_classes=num_classes)
    return PublishedModel('DS-Net', classifier, rename, dict(family='DS-Net', **facts))


def dsnet_classifier(
    depths: Sequence[int], align: bool, num_classes: int, where: str
) -> nn.ModuleDict:
    """Build a DS-Net classifier with as many blocks per stage, without memory for weights."""
    arch = dict(DSNet.arch_zoo['tiny'], depths=check_depths(depths, where))
    with torch.device('meta'):
        return classifier_around(DSNet(arch, align=align), num_classes)


def recognize_glnet(tensors: dict[str, Tensor], num_classes: int, where: str) -> PublishedModel:
    """Return the GLNet that a file belongs to."""
    depths = count_blocks(GLNET_BLOCKS, tensors)
    is_hybrid = 'downsample_layers.0.4.weight' in tensors
    convs = ['0.4', '1.0', '2.0', '3.0'] if is_hybrid else ['0.0', '1.1', '2.1', '3.1']
    biases = [f'downsample_layers.{conv}.bias' for conv in convs]
    expansion = 'stages.0.blocks.0.mlp.0.bias'
    if not {*biases, expansion} <= set(tensors):
        raise UserError(f'{where} lacks layers of a GLNet; download it again')
    widths = tuple(tensors[name].numel() for name in biases)
    arch = dict(
        layout='hybrid' if is_hybrid else 'swin',
        embed_dims=widths,
        depths=tuple(check_depths(depths, where)),
        mlp_ratio=tensors[expansion].numel() / max(1, widths[0]),
        learned_slots=any(name.endswith('.init_slots') for name in tensors),
        layer_scale=1e-4 if any(name.endswith('.gamma') for name in tensors) else None,
    )
    try:
        with torch.device('meta'):
            classifier = classifier_around(GLNet(arch), num_classes)
    except ConfigError as error:
        raise UserError(f'{where} does not fit a GLNet; download it again ({error})') from error
    known = next((name for name, zoo in GLNet.arch_zoo.items() if zoo == arch), None)
    facts = dict(family='GLNet', arch=known, depths=depths, align=None)
    return PublishedModel('GLNet', classifier, glnet_name, dict(facts, num_classes=num_classes))


def classifier_around(backbone: StagedBackbone, num_classes: int) -> nn.ModuleDict:
    """Return the parts of mmpretrain's classifier under its names."""
    width = backbone.out_channels[-1]
    return nn.ModuleDict(
        dict(
            backbone=backbone,
            neck=NormGlobalAveragePooling(width),
            head=nn.ModuleDict(dict(fc=nn.Linear(width, num_classes))),
        )
    )


def check_depths(depths: Sequence[int], where: str) -> list[int]:
    """Return the blocks per stage, at least one each.

    Raises:
        UserError: If there are more blocks than any published model has.
    """
    if sum(depths) > MAX_DEPTH:
        raise UserError(
            f'{where} names {sum(depths)} blocks, more than any published model has; pass a '
            'published weight file'
        )
    return [max(1, depth) for depth in depths]
