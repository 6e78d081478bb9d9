"""Keep the start of a run readable: details go to the log file only."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

ALWAYS_SHOWN = ('Load checkpoint', 'resumed epoch', 'LR is set based on')


class QuietStartRunner(Runner):
    """Print warnings only until the first iteration, after which the console shows everything.

    mmengine prints the environment, the config, all hooks and one line for each weight without
    weight decay, which are 600 lines for a small detector. The log file has them.
    """

    def build_logger(
        self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any
    ) -> MMLogger:
        """Build the logger; with another level than INFO, the console shows everything."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        self._quiet = log_level in ('INFO', logging.INFO)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                print(f'Environment, config and settings of the weights: {handler.baseFilename}')
            else:
                handler.addFilter(self._is_shown)
        return logger

    def _is_shown(self, record: logging.LogRecord) -> bool:
        important = record.levelno >= logging.WARNING or record.getMessage().startswith(
            ALWAYS_SHOWN
        )
        return not self._quiet or important

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks of a point, such as before_train."""
        if fn_name in ('before_train', 'before_val', 'before_test'):
            self._quiet = False
        super().call_hook(fn_name, **kwargs)
