"""Errors that a user can fix, and the wording of counts."""

from __future__ import annotations


class UserError(Exception):
    """A fault the user can mend; its message is one sentence: what, where, what to do."""


class ConfigError(UserError, ValueError):
    """An argument of a model, or a setting of a config, that cannot be used."""


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return '1 image', or '2 images'; ``more`` is the plural where it is not ``one`` with an s."""
    return f'{number} {one if number == 1 else more or one + "s"}'
