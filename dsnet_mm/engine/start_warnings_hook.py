"""Warnings that stand where they are seen."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class StartWarningsHook(Hook):
    """Log warnings just before the first iteration, behind the hundreds of lines of the start.

    Args:
        sentences: The warnings.
    """

    priority = 'LOWEST'

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = sentences

    def before_train(self, runner: Runner) -> None:
        """Log them."""
        for sentence in self.sentences:
            runner.logger.warning(sentence)
