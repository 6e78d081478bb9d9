"""Build models from configs, without data and without loading weights."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError
from dsnet_mm.models.reference import as_published

ARCHS = dict(t='tiny', s='small', b='base')
OTHERS = {
    'r50': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'swin_t': 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'pvt_s': 'mmdet::pvt/retinanet_pvt-s_fpn_1x_coco.py',
}


def build_model(config: str | Path, **backbone: Any) -> nn.Module:
    """Build the model of a config, without data and without loading weights.

    Args:
        config: Path of a config, or ``package::path`` for a config of an installed OpenMMLab
            package, such as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        **backbone: Settings that replace those of the backbone.

    Raises:
        UserError: If the config cannot be read or has no model with a backbone.
    """
    cfg = read_config(config)
    try:
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        cfg.model.get('backbone', {}).update(backbone)
        model = MODELS.build(cfg.model)
    except Exception as error:  # a registry passes on every type of error
        raise _unbuildable(config, error) from error
    if not hasattr(model, 'backbone'):
        raise UserError(
            f'the model of {config} has no backbone; pass the config of a detector or classifier'
        )
    return model


def read_config(config: str | Path) -> Config:
    """Read a config by path or ``package::path``, as in :func:`build_model`.

    Raises:
        UserError: If the config cannot be read.
    """
    try:
        return get_config(str(config)) if '::' in str(config) else Config.fromfile(config)
    except FileNotFoundError as error:
        raise UserError(f'{config} does not exist; pass the path of a config (.py)') from error
    except Exception as error:  # a config is a program, which can raise any error
        raise _unbuildable(config, error) from error


def _unbuildable(config: str | Path, error: Exception) -> UserError:
    reason = ' '.join(str(error).split())
    return UserError(f'no model can be built from {config} ({reason}); correct the config')


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


def initialize(model: nn.Module) -> None:
    """Initialize a model at random, without pretrained weights and without log messages."""
    for module in model.modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, dict) and 'checkpoint' in init_cfg:
            module.init_cfg = None
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
