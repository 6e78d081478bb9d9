"""The weights from which a config starts: those of its backbone, and those of ``load_from``."""

from __future__ import annotations

import logging
import os.path as osp

from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from dsnet_mm.errors import UserError
from dsnet_mm.weights.loading import StrictBackbone
from dsnet_mm.weights.published_files import how_to_get, is_known

from .checkpoint import fitting_parts, read_weights

LEAVE_OUT = 'leave it out with --cfg-options load_from=None'


def check_initial_weights(cfg: Config) -> None:
    """Look whether the weights that ``cfg`` names, in the backbone and in load_from, are there.

    Raises:
        UserError: If a file is missing.
    """
    backbone = cfg.get('model', {}).get('backbone', {})
    if not isinstance(backbone, dict):
        raise UserError(
            f'model.backbone of {cfg.filename} is {backbone!r}; set the type in model.backbone.type'
        )
    of_backbone, of_all = _weights_of_backbone(cfg), cfg.get('load_from') or ''
    if _is_missing(of_backbone):
        options = 'model.backbone.init_cfg=None'
        if of_all and not _is_missing(of_all):
            other = f'leave them to load_from with --cfg-options {options}'
        else:
            options += ' model.backbone.norm_eval=False' + (of_all and ' load_from=None')
            other = f'train from scratch with --cfg-options {options}'
        raise UserError(
            f'the pretrained weights {of_backbone} are missing; {how_to_get(of_backbone)}, or '
            f'{other}'
        )
    if _is_missing(of_all):
        get = how_to_get(of_all) if is_known(of_all) else 'correct its path'
        raise UserError(f'load_from names {of_all}, which is missing; {get}, or {LEAVE_OUT}')


def read_load_from(cfg: Config) -> dict[str, Tensor]:
    """Return the tensors of the file that load_from names; none where it is none of this machine.

    Raises:
        UserError: If it cannot be read, or not safely.
    """
    path = _local_file(cfg.get('load_from') or '')
    # a config that resumes by itself has mmengine look for the file
    return read_weights(path) if path and not cfg.get('resume') else {}


def adds_to_backbone(model: nn.Module, weights: dict[str, Tensor], cfg: Config) -> bool:
    """Tell whether load_from sets more than the backbone, which has its weights already.

    What it leaves as it is gets one sentence in the log, beside the long list of names that
    mmengine writes.

    Args:
        model: Not initialised yet.
        weights: The tensors that load_from names.
        cfg: The config of both.

    Raises:
        UserError: If nothing of it fits.
    """
    path, backbone = cfg.load_from, getattr(model, 'backbone', None)
    parts = fitting_parts(model, weights)
    fitting = {part for part, (fits, _) in parts.items() if fits}
    is_its_own = path == _weights_of_backbone(cfg) and isinstance(backbone, StrictBackbone)
    if is_its_own and fitting <= {'backbone'}:
        print_log(
            f'{path} holds weights of the backbone alone, so the other parts of the model begin at '
            'random.',
            logger='current',
        )
        return False
    if not fitting:
        raise UserError(
            f'load_from names {path}, of which nothing fits the model of {cfg.filename}; name '
            'weights of a backbone alone in '
            f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint='{path}') instead, or "
            f'{LEAVE_OUT}'
        )
    if any(fits < needed for fits, needed in parts.values()):
        shares = (f'{fits} of {needed} tensors of {part}' for part, (fits, needed) in parts.items())
        print_log(
            f'{path} sets {", ".join(shares)}; the others, which mmengine lists, begin as without.',
            logger='current',
            level=logging.WARNING,
        )
    return True


def _weights_of_backbone(cfg: Config) -> str:
    init_cfg = cfg.get('model', {}).get('backbone', {}).get('init_cfg') or {}
    return init_cfg.get('checkpoint', '') if isinstance(init_cfg, dict) else ''


def _is_missing(path: str) -> bool:
    file = _local_file(path)
    return bool(file) and not osp.isfile(file)


def _local_file(path: str) -> str:
    """The file of this machine that ``path`` names as mmengine reads it, '' for an address."""
    return '' if '://' in path else osp.expanduser(path)
