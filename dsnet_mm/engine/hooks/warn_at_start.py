"""Log warnings where users see them."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner


class WarnAtStartHook(Hook):
    """Log warnings just before the first iteration, after the hundreds of lines of the start.

    Args:
        sentences: The warnings.
    """

    priority = 'LOWEST'

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = sentences

    def before_train(self, runner: Runner) -> None:
        """Log the warnings."""
        for sentence in self.sentences:
            runner.logger.warning(sentence)
