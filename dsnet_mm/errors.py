"""Define errors that a user can fix, and format parts of their sentences."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMES = 4  # in a message
LONGEST = 120  # characters of a name in a message; the longest tensor name of DS-Net-B has 59


class UserError(Exception):
    """Report a problem that the user can fix, in one sentence: what failed, where, what to do."""


class ConfigError(UserError, ValueError):
    """Report an unusable argument of a model or setting of a config."""


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return '1 image' or '2 images'; ``more`` is an irregular plural."""
    return f'{number} {one if number == 1 else more or one + "s"}'


def listing(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return 'a, b and 3 more': the first names and the number of the others."""
    rest = len(names) - most
    return ', '.join(map(printable, names[:most])) + (f' and {rest} more' if rest > 0 else '')


def printable(name: str) -> str:
    """Return a name from a file, escaped and cut if it is long or has control characters."""
    return name if name.isprintable() and len(name) <= LONGEST else f'{ascii(name)[:LONGEST]}...'


def one_line(error: object) -> str:
    """Return the text of an error without line breaks, or its type if it has no text."""
    return ' '.join(str(error).split()) or type(error).__name__
