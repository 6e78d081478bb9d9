"""Control the BatchNorm statistics and the memory of norms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .ops import stores_for_backward


def conv_of_norm(
    conv: nn.Module, norm: nn.Module, x: Tensor, *args: Any, recompute: bool = True
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
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
