"""Build detectors by short names."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.model import BaseModel

from dsnet_mm.engine.building import build_model, initialize
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError
from dsnet_mm.models.published import as_published

ARCHS = dict(t='tiny', s='small', b='base')
OTHERS = {
    'r50': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'swin_t': 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'pvt_s': 'mmdet::pvt/retinanet_pvt-s_fpn_1x_coco.py',
}


def build_candidate(name: str) -> BaseModel:
    """Build a randomly initialized detector from a short name or a config.

    A short name means a RetinaNet with this backbone: ``dsnet_s``, ``dsnet_s_noalign``,
    ``dsnet_s_grid1050`` with ``max_grid_cells=1050``, ``glnet_4g``, or a name in :data:`OTHERS`.
    The letters ``t`` and ``b`` work like ``s``, and ``stl`` works like ``4g``. ``published_``
    before these names means the published formulation.

    Raises:
        UserError: If the name is unknown or the config has no model with a backbone.
    """
    dsnet = re.fullmatch(r'(?:published_)?dsnet_([tsb])(_noalign)?(?:_grid(\d+))?', name)
    glnet = re.fullmatch(r'(?:published_)?glnet_(stl|4g)', name)
    if dsnet:
        config = configs_dir() / 'retinanet_dsnet_s_fpn_1x_coco.py'
        cells = int(dsnet[3]) if dsnet[3] else None
        model = build_model(config, arch=ARCHS[dsnet[1]], align=not dsnet[2], max_grid_cells=cells)
    elif glnet:
        model = build_model(configs_dir() / f'retinanet_glnet_{glnet[1]}_fpn_1x_coco.py')
    elif name in OTHERS or name.endswith('.py'):
        model = build_model(OTHERS.get(name, name))
    else:
        raise UserError(
            f'{name} is unknown; pass the path of a config (.py), [published_]dsnet_{{t,s,b}}'
            f'[_noalign][_gridN], [published_]glnet_{{stl,4g}}, or {", ".join(OTHERS)}'
        )
    if name.startswith('published_'):
        as_published(model)
    initialize(model)
    return model


def detector_configs() -> list[Path]:
    """Return the 1x configs of RetinaNet and Mask R-CNN, which the documentation lists."""
    names = ('retinanet', 'mask_rcnn')
    return sorted(path for name in names for path in configs_dir().glob(f'{name}_*_1x_coco.py'))
