"""One way of telling the user what went wrong, shared by the package and its tools."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A fault the user can mend; its message is one sentence: what, where, what to do."""


class ConfigError(UserError, ValueError):
    """An argument of a model, or a setting of a config, that cannot be used."""


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return '1 image', or '2 images'; ``more`` is the plural where it is not ``one`` with an s."""
    return f'{number} {one if number == 1 else more or one + "s"}'


def run_cli(main: Callable[[], None]) -> NoReturn:
    """Run the ``main`` of a command-line tool and end the process.

    A :class:`UserError` becomes one line on standard error and exit status 1; any other
    exception is a defect of the program and keeps its traceback.
    """
    try:
        main()
    except UserError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('error: interrupted')
    sys.exit(0)
