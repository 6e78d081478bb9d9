"""What the blocks of DS-Net and GLNet share: initialization, and recomputation of whole blocks."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dsnet_mm.errors import ConfigError

from .norms import frozen_running_stats


class Block(BaseModule):
    """A block that maps (B, C, H, W) to the same shape.

    Args:
        with_cp: What the backward pass recomputes instead of storing it. True: the whole block.
            'mlp' and False are up to the layers of the block, see ``recompute``.
        init_cfg: Initialization, as of any ``BaseModule``.

    Attributes:
        recompute: Whether the layers recompute norms and activations.

    Raises:
        ConfigError: If ``with_cp`` has another value.
    """

    def __init__(self, with_cp: bool | str, init_cfg: OptMultiConfig) -> None:
        super().__init__(init_cfg=init_cfg)
        if with_cp not in (True, False, 'mlp'):
            raise ConfigError(f"with_cp={with_cp!r} is unknown; set it to 'mlp', True or False")
        self.with_cp = with_cp
        self.recompute = bool(with_cp)

    def init_weights(self) -> None:
        """Initialize linear layers by a truncated normal, std 0.02, and convolutions as PyTorch.

        Every layer is reset, so that a parent's ``init_cfg`` for convolutions, such as FPN's
        Xavier, does not reach into the block.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                module.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, C, H, W) -> the same shape."""
        if self.with_cp is True and torch.is_grad_enabled():
            options: dict[str, Any] = dict(use_reentrant=False)
            if any(isinstance(m, _BatchNorm) and m.training for m in self.modules()):
                options['context_fn'] = lambda: (nullcontext(), frozen_running_stats(self))
            return checkpoint(self._forward, x, **options)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        """Apply the block without recomputation of the whole."""
        raise NotImplementedError
