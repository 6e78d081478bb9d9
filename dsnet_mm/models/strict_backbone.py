"""Load pretrained weights completely, or raise an error.

mmengine's ``Pretrained`` initialization logs the tensors that do not fit and loads the others.
A backbone that starts from half of its weights trains to a low AP without any error.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmengine.model import BaseModule, ModuleList

from dsnet_mm.errors import UserError, listing

from .norms import OutputNorms

PREFIX = 'backbone.'
OUT_NORMS = 'out_norms.'


class StrictBackbone(BaseModule):
    """A backbone with ``stages`` and ``out_norms`` that rejects a checkpoint which does not fit.

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` accepts a checkpoint of the backbone, or of
    a classifier or detector. The latter's tensors ``backbone.*`` are loaded, with or without
    ``prefix='backbone.'`` in ``init_cfg``. The checkpoint may have stages that come after the last
    stage of this backbone, and norms of outputs that this backbone does not return. Like the
    published weights, the checkpoint may lack all norms of outputs.
    """

    stages: ModuleList
    out_norms: OutputNorms
    how_to_get_weights: ClassVar[str] = (
        'download the published weights with `dsnet-mm weights tiny|small|base`'
    )
    _pretrained: str | None = None  # the checkpoint while ``init_weights`` loads it

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says.

        Raises:
            UserError: If a pretrained checkpoint is missing, cannot be read, or has tensors whose
                names or shapes do not fit.
        """
        settings = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        self._pretrained = next(
            (str(cfg['checkpoint']) for cfg in settings if 'checkpoint' in cfg), None
        )
        try:
            super().init_weights()
        except FileNotFoundError as error:
            if self._pretrained is None:
                raise
            raise UserError(
                f'the checkpoint {self._pretrained} of the backbone does not exist; '
                f'{self.how_to_get_weights}, or set init_cfg=None in the backbone to start from '
                'random weights'
            ) from error
        except (AssertionError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            if self._pretrained is None:
                raise
            reason = str(error).strip().split('\n')[0]
            raise UserError(
                f'the checkpoint {self._pretrained} of the backbone cannot be loaded '
                f'({reason}); {self.how_to_get_weights}, or convert a file with `dsnet-mm weights '
                '--from FILE`'
            ) from error
        finally:
            self._pretrained = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if not prefix:  # this module is loaded alone, not as a part of a model
            select_backbone(state_dict)
            if self._pretrained is not None:
                self._check_fit(state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_fit(self, state_dict: dict[str, Any]) -> None:
        needed = {name: tensor.shape for name, tensor in self.state_dict().items()}
        if not any(name.startswith(OUT_NORMS) for name in state_dict):
            needed = {n: shape for n, shape in needed.items() if not n.startswith(OUT_NORMS)}
        for name in list(state_dict):
            stage = re.match(r'(?:stages|downsample_layers)\.(\d+)\.', name)
            norm = re.match(r'out_norms\.(\d+)\.', name) if self.out_norms else None
            if (stage and int(stage[1]) >= len(self.stages)) or (
                norm and norm[1] not in self.out_norms
            ):
                del state_dict[name]
        fault = misfit(
            needed,
            {name: getattr(tensor, 'shape', ()) for name, tensor in state_dict.items()},
        )
        if fault:
            raise UserError(
                f'the checkpoint {self._pretrained} does not fit the {type(self).__name__} of this '
                f'config ({fault}); check arch, align and out_norm_cfg of the backbone'
            )


def select_backbone(state_dict: dict[str, Any]) -> None:
    """Reduce a model's tensors to ``backbone.*`` and remove that prefix, in place."""
    if any(name.startswith('stages.') for name in state_dict):
        return
    own = {
        name[len(PREFIX) :]: tensor
        for name, tensor in state_dict.items()
        if name.startswith(PREFIX)
    }
    if own:
        state_dict.clear()
        state_dict.update(own)


def misfit(needed: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]) -> str:
    """List the tensors that do not fit, as a part of an error message.

    Args:
        needed: Shapes of the model's tensors by name.
        given: Shapes of the file's tensors by name.

    Returns:
        A text such as ``missing: a.weight, a.bias; left over: b.bias``, or '' if all tensors fit.
    """
    missing = [name for name in needed if name not in given]
    left_over = [name for name in given if name not in needed]
    reshaped = [
        f'{name} {tuple(given[name])} instead of {tuple(needed[name])}'
        for name in needed
        if name in given and tuple(given[name]) != tuple(needed[name])
    ]
    faults = {'missing': missing, 'left over': left_over, 'of another shape': reshaped}
    return '; '.join(f'{fault}: {listing(names)}' for fault, names in faults.items() if names)
