"""Build detectors by short names."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from dsnet_mm.engine.building import build_model, initialize
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError
from dsnet_mm.models.reference import as_published

ARCHS = dict(t='tiny', s='small', b='base')
OTHERS = {
    'r50': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'swin_t': 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'pvt_s': 'mmdet::pvt/retinanet_pvt-s_fpn_1x_coco.py',
}


def build_candidate(name: str) -> nn.Module:
    """Build a randomly initialized detector from a short name or a config.

    A short name means a RetinaNet with this backbone: ``dsnet_s``, ``dsnet_s_noalign``,
    ``published_dsnet_s`` for the published formulation, or a name in :data:`OTHERS`. The letters
    ``t`` and ``b`` work like ``s``.

    Raises:
        UserError: If the name is unknown or the config has no model with a backbone.
    """
    match = re.fullmatch(r'(published_)?dsnet_([tsb])(_noalign)?', name)
    if match:
        published, size, noalign = match.groups()
        config = configs_dir() / 'retinanet_dsnet_s_fpn_1x_coco.py'
        model = build_model(config, arch=ARCHS[size], align=not noalign)
        if published:
            as_published(model)
    elif name in OTHERS or name.endswith('.py'):
        model = build_model(OTHERS.get(name, name))
    else:
        raise UserError(
            f'{name} is unknown; pass the path of a config (.py), [published_]dsnet_{{t,s,b}}'
            f'[_noalign], or {", ".join(OTHERS)}'
        )
    initialize(model)
    return model


def detector_configs() -> list[Path]:
    """Return the 1x configs for COCO, which the documentation lists with their cost."""
    return sorted(configs_dir().glob('*_1x_coco.py'))
