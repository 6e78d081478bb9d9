"""Define errors that a user can fix, and format counts."""

from __future__ import annotations


class UserError(Exception):
    """Report a problem that the user can fix, in one sentence: what failed, where, what to do."""


class ConfigError(UserError, ValueError):
    """Report an unusable argument of a model or setting of a config."""


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return '1 image' or '2 images'; ``more`` is an irregular plural."""
    return f'{number} {one if number == 1 else more or one + "s"}'
