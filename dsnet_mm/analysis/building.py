"""Models from configs, without data and without loading weights."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError


def build_model(config: str | Path) -> nn.Module:
    """Build the model of a config, without data and without loading weights.

    Args:
        config: Path of a config, or ``package::path`` for one that an installed OpenMMLab
            package brings, such as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.

    Raises:
        UserError: If the config cannot be read or has no model with a backbone.
    """
    try:
        cfg = get_config(str(config)) if '::' in str(config) else Config.fromfile(config)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        model = MODELS.build(cfg.model)
    except FileNotFoundError as error:
        raise UserError(f'{config} does not exist; give the path of a config (.py)') from error
    except Exception as error:  # a config is a program, and a registry hands on what it catches
        reason = ' '.join(str(error).split())
        raise UserError(f'no model can be built from {config}: {reason}') from error
    if not hasattr(model, 'backbone'):
        raise UserError(f'the model of {config} has no backbone; give a detector or a classifier')
    return model


def detector_configs() -> list[Path]:
    """Return this project's configs for COCO, those whose cost the documentation shows."""
    return sorted(configs_dir().glob('*_coco.py'))
