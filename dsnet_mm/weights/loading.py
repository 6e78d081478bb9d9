"""Loading pretrained weights whole or not at all.

mmengine's ``Pretrained`` initialisation logs the tensors that do not fit and goes on with the
others. A backbone that starts from half of its weights trains to a low AP without any error.
"""

from __future__ import annotations

import pickle
import re
from typing import Any

from mmengine.model import BaseModule

from dsnet_mm.errors import UserError

from .fit import misfit
from .published_files import how_to_get

PREFIX = 'backbone.'


class StrictBackbone(BaseModule):
    """A backbone with ``stages`` whose ``init_cfg=dict(type='Pretrained', ...)`` fits or fails.

    The checkpoint may be the backbone's own, or a classifier's or detector's, of which
    ``backbone.*`` is taken, with or without ``prefix='backbone.'`` in ``init_cfg``. It may hold
    later stages than the backbone was built with.
    """

    _pretrained: str | None = None  # the checkpoint while ``init_weights`` loads it

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says.

        Raises:
            UserError: If a pretrained checkpoint is absent, cannot be read, or does not fit in
                the name and shape of every tensor.
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
                f'the pretrained weights {self._pretrained} of the backbone do not exist; '
                f'{how_to_get(self._pretrained)}, or set init_cfg of the backbone to '
                'None to start without'
            ) from error
        except (AssertionError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            if self._pretrained is None:
                raise
            reason = str(error).strip().split('\n')[0]
            raise UserError(
                f'the pretrained weights {self._pretrained} of the backbone cannot be '
                f'loaded; make them anew with tools/get_weights.py or '
                f'tools/convert_weights.py ({reason})'
            ) from error
        finally:
            self._pretrained = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if not prefix:  # loaded by itself, not as a part of a whole model
            select_backbone(state_dict)
            if self._pretrained is not None:
                self._check_fit(state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_fit(self, state_dict: dict[str, Any]) -> None:
        for name in list(state_dict):
            stage = re.match(r'stages\.(\d+)\.', name)
            if stage and int(stage[1]) >= len(self.stages):
                del state_dict[name]
        fault = misfit(
            {name: tensor.shape for name, tensor in self.state_dict().items()},
            {name: getattr(tensor, 'shape', ()) for name, tensor in state_dict.items()},
        )
        if fault:
            raise UserError(
                f'the pretrained weights {self._pretrained} do not fit the '
                f'{type(self).__name__} of this config, check its arch and align ({fault})'
            )


def select_backbone(state_dict: dict[str, Any]) -> None:
    """Keep only ``backbone.*`` of a whole model's tensors, in place, and cut that prefix."""
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
