"""Build norms of output maps, and control the BatchNorm statistics and the memory of norms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.utils import OptConfigType
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dsnet_mm.errors import ConfigError

from .ops import stores_for_backward


class OutputNorms(nn.ModuleDict):
    """A norm for each output map of a backbone, or none.

    Args:
        norm_cfg: Norm as in mmcv; LN normalizes the channels of each pixel. None builds no norms.
        channels: Channels of each output map, by its index.

    Raises:
        ConfigError: If ``norm_cfg`` describes no norm of these channels.
    """

    def __init__(self, norm_cfg: OptConfigType, channels: Mapping[int, int]) -> None:
        super().__init__()
        for index, width in channels.items() if norm_cfg is not None else ():
            try:
                self[str(index)] = build_norm_layer(norm_cfg, width)[1]
            except (AssertionError, KeyError, TypeError, ValueError) as error:
                raise ConfigError(
                    f'out_norm_cfg={norm_cfg!r} builds no norm of {width} channels; set it to '
                    "None, dict(type='LN'), dict(type='BN'), or dict(type='GN', num_groups=...) "
                    'with a number that divides the channels'
                ) from error

    def forward(self, index: int, x: Tensor) -> Tensor:
        """Normalize the output map ``index``, (B, C, H, W) -> the same shape, if it has a norm."""
        if str(index) not in self:
            return x
        norm = self[str(index)]
        if type(norm) is nn.LayerNorm:  # normalizes the last dimension
            return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return norm(x)


def conv_of_norm(
    conv: Callable[..., Any], norm: nn.Module, x: Tensor, *args: Any, recompute: bool = True
) -> Any:
    """Return ``conv(norm(x), *args)``, without storing ``norm(x)`` for the backward pass.

    A norm stores its input and a convolution stores its own, which are two maps of the same size.
    The backward pass recomputes the second map from the first. PyTorch stops the recomputation
    at the convolution, which does not run twice.

    Args:
        conv: The convolution.
        norm: The norm.
        x: Input of the norm, (B, C, H, W).
        *args: Further arguments of the convolution.
        recompute: Whether to save the memory. It has no effect on a norm that updates its
            statistics: a second run would update them twice.
    """

    def forward(x: Tensor) -> Any:
        return conv(norm(x), *args)

    updates_statistics = norm.training and any(True for _ in norm.buffers())
    if recompute and stores_for_backward() and not updates_statistics:
        return checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)
    return forward(x)


def set_norms_to_eval(module: nn.Module) -> None:
    """Make each BatchNorm in ``module`` use its running statistics without updating them."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


@contextmanager
def frozen_running_stats(module: nn.Module) -> Iterator[None]:
    """Preserve the running statistics of each BatchNorm in ``module``.

    Recomputation runs a block twice on the same batch, which must count once.
    """
    momenta = {m: m.momentum for m in module.modules() if isinstance(m, _BatchNorm)}
    counters = [norm.num_batches_tracked for norm in momenta]
    counts = [(count, count.clone()) for count in counters if count is not None]
    for norm in momenta:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for count, before in counts:
            count.copy_(before)
