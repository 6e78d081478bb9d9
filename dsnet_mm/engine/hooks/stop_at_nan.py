"""Stop a training whose loss or weights are not finite."""

from __future__ import annotations

import logging

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dsnet_mm.errors import UserError


class NotFiniteError(UserError):
    """The loss or a weight of a training is not finite.

    Attributes:
        fact: What is not finite, and at which iteration.
    """

    def __init__(self, what: str, runner: Runner) -> None:
        self.fact = f'{what} is not finite at iteration {runner.iter + 1}'
        super().__init__(
            f'{self.fact} of {runner.work_dir}; the checkpoints there are older and finite: set '
            'optim_wrapper.clip_grad or omit --amp and continue with --resume, or start anew with '
            'a lower optim_wrapper.optimizer.lr'
        )


@HOOKS.register_module()
class StopAtNaNHook(Hook):
    """Stop a training whose loss is not finite, before it writes a checkpoint.

    Args:
        interval: Iterations between two checks; each check waits for the GPU.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self.loss: torch.Tensor | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Check the loss every ``interval`` iterations."""
        self.loss = (outputs or {}).get('loss')
        if self.every_n_train_iters(runner, self.interval):
            self.check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the last loss and the weights."""
        self.check(runner)
        for name, weight in checkpoint['state_dict'].items():
            if weight.is_floating_point() and not weight.isfinite().all():
                self.stop(runner, f'the weight {name}')

    def check(self, runner: Runner) -> None:
        """Stop if the last loss is not finite."""
        if self.loss is not None and not torch.isfinite(self.loss).all():
            self.stop(runner, 'the loss')

    @staticmethod
    def stop(runner: Runner, what: str) -> None:
        """Log the error and raise it."""
        error = NotFiniteError(what, runner)
        print_log(str(error), logger='current', level=logging.ERROR)
        raise error
