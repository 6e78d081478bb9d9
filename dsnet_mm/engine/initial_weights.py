"""Check the weights from which a config starts: those of its backbone, and ``load_from``."""

from __future__ import annotations

import os.path as osp
from dataclasses import dataclass

from mmengine.config import Config
from torch import Tensor, nn

from dsnet_mm.errors import UserError
from dsnet_mm.models.strict_backbone import StrictBackbone
from dsnet_mm.weights.address import local_file
from dsnet_mm.weights.published_files import PREFIX, how_to_get

from .checkpoint import fitting_parts, read_weights

LEAVE_OUT = 'leave it out with --cfg-options load_from=None'


def check_initial_weights(cfg: Config) -> None:
    """Check that the weights of the backbone and of ``load_from`` are on this machine.

    Weights with a ``dsnet://`` address are downloaded now, before the first image is read.

    Raises:
        UserError: If a file is missing, or the weights of an address are not available.
    """
    backbone = cfg.get('model', {}).get('backbone', {})
    if not isinstance(backbone, dict):
        raise UserError(
            f'model.backbone of {cfg.filename} is {backbone!r}; set the type in model.backbone.type'
        )
    of_backbone, of_all = _weights_of_backbone(cfg), cfg.get('load_from') or ''
    faults = {path: _fault(path) for path in dict.fromkeys((of_backbone, of_all))}
    if fault := faults[of_backbone]:
        options = 'model.backbone.init_cfg=None'
        if of_all and not faults[of_all]:
            other = f'leave the backbone to load_from with --cfg-options {options}'
        else:
            options += ' model.backbone.norm_eval=False' + (of_all and ' load_from=None')
            other = f'train from scratch with --cfg-options {options}'
        raise UserError(f'model.backbone.init_cfg: {fault}, or {other}')
    if fault := faults[of_all]:
        raise UserError(f'load_from: {fault}, or {LEAVE_OUT}')


def read_load_from(cfg: Config) -> dict[str, Tensor]:
    """Return the tensors of ``load_from``, or none if its address is left to mmengine.

    Raises:
        UserError: If the file cannot be read, or not safely.
    """
    path = _local_file(cfg.get('load_from') or '')
    # a config that resumes by itself has mmengine look for the file
    return read_weights(path) if path and not cfg.get('resume') else {}


@dataclass
class LoadFrom:
    """How the tensors of load_from fit a model.

    Attributes:
        path: The file.
        fitting: For each part of the model, such as 'backbone', how many of its tensors fit in name
            and shape, and how many it has.
        misshapen: Tensors of the file whose shapes differ from the model's.
        unused: Tensors of the file that the model does not have.
        only_repeats_backbone: Whether the backbone alone fits, and has these weights already.
    """

    path: str
    fitting: dict[str, tuple[int, int]]
    misshapen: int
    unused: int
    only_repeats_backbone: bool

    @classmethod
    def of(cls, model: nn.Module, weights: dict[str, Tensor], cfg: Config) -> LoadFrom:
        """Compare ``weights``, read from load_from of ``cfg``, with a model.

        Raises:
            UserError: If no tensor fits.
        """
        path, state = cfg.load_from, model.state_dict()
        is_its_own = path == _weights_of_backbone(cfg) and isinstance(
            getattr(model, 'backbone', None), StrictBackbone
        )
        if is_its_own and not weights.keys() & state.keys():  # a backbone without the prefix
            weights = {f'backbone.{name}': tensor for name, tensor in weights.items()}
        parts = fitting_parts(model, weights)
        used = {part for part, (fits, _) in parts.items() if fits}
        if not used:
            raise UserError(
                f'load_from names {path}, and no tensor of it fits the model of {cfg.filename}; '
                "set weights of a backbone in model.backbone.init_cfg=dict(type='Pretrained', "
                f"checkpoint='{path}') instead, or {LEAVE_OUT}"
            )
        known = weights.keys() & state.keys()
        misshapen = sum(weights[name].shape != state[name].shape for name in known)
        unused = len(weights.keys() - known)
        return cls(path, parts, misshapen, unused, is_its_own and used == {'backbone'})

    @property
    def is_partial(self) -> bool:
        """Whether a tensor of the model is not set."""
        return any(fits < needed for fits, needed in self.fitting.values())

    def __str__(self) -> str:
        shares = ', '.join(
            f'{fits} of {needed} tensors of {part}' for part, (fits, needed) in self.fitting.items()
        )
        rest = f'{self.misshapen} with another shape and {self.unused} with an unknown name'
        if not self.misshapen and not self.unused:
            rest = 'none'
        return (
            f'{self.path} sets {shares}; the others start from random weights. Unused tensors of '
            f'the file: {rest}.'
        )


def _weights_of_backbone(cfg: Config) -> str:
    init_cfg = cfg.get('model', {}).get('backbone', {}).get('init_cfg') or {}
    return init_cfg.get('checkpoint', '') if isinstance(init_cfg, dict) else ''


def _fault(path: str) -> str:
    """Say what is wrong with weights and what to do, '' if they are usable or not checked."""
    try:
        file = _local_file(path)
    except UserError as error:
        return str(error)
    return '' if not file or osp.isfile(file) else f'{path} is missing; {how_to_get(path)}'


def _local_file(path: str) -> str:
    """Return the file of this machine that ``path`` means, '' for an address of mmengine.

    Raises:
        UserError: If ``path`` is a ``dsnet://`` address that is not available.
    """
    if path.startswith(PREFIX):
        return str(local_file(path))
    return '' if '://' in path else osp.expanduser(path)
