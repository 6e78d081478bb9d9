"""Detectors by short names."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from dsnet_mm.engine.building import build_model, initialize
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError

from .published import as_published

ARCHS = dict(t='tiny', s='small', b='base')
OTHERS = {
    'r50': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'swin_t': 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'pvt_s': 'mmdet::pvt/retinanet_pvt-s_fpn_1x_coco.py',
}


def build_candidate(name: str) -> nn.Module:
    """Build a detector by a short name, or that of a config, and initialise it at random.

    ``dsnet_s`` and its like, ``dsnet_s_noalign``, ``published_dsnet_s`` for the published
    formulation, and the names in :data:`OTHERS` are RetinaNets with that backbone.

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
            f'{name} is unknown; give the path of a config (.py), dsnet_t, dsnet_s or dsnet_b, '
            f'these with _noalign behind or published_ before them, or {", ".join(OTHERS)}'
        )
    initialize(model)
    return model


def detector_configs() -> list[Path]:
    """Return the 1x configs for COCO, whose cost the documentation shows."""
    return sorted(configs_dir().glob('*_1x_coco.py'))
