"""Define arguments that several subcommands share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

from dsnet_mm.errors import UserError


class LocalRank(argparse.Action):
    """Pass the `--local-rank` of a launcher to mmengine, which reads `LOCAL_RANK`."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        """Set the variable unless the launcher has set it."""
        os.environ.setdefault('LOCAL_RANK', str(value))


class Settings(argparse.Action):
    """Collect KEY=VALUE config settings unparsed, from repeated options too."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Append the settings to those of earlier occurrences."""
        for setting in values:
            if '=' not in setting:
                parser.error(f'{option_string} {setting} lacks a value; write KEY=VALUE')
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), *values])


def read_settings(typed: Sequence[str] | None) -> dict[str, Any] | None:
    """Parse KEY=VALUE settings as mmengine does.

    Raises:
        UserError: If a value cannot be parsed.
    """
    if not typed:
        return None
    from mmengine.config import DictAction

    settings = argparse.Namespace()
    try:
        DictAction(['--cfg-options'], 'values')(argparse.ArgumentParser(), settings, list(typed))
    except AssertionError as error:
        raise UserError(
            f'--cfg-options {" ".join(typed)} cannot be parsed ({error}); correct the value'
        ) from error
    return settings.values


def add_settings(parser: argparse.ArgumentParser, help: str) -> None:
    """Add `--cfg-options`."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE', default=None, help=help
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    parser.add_argument('--work-dir', metavar='DIR', help='folder of logs and checkpoints')
    parser.add_argument('--data-root', metavar='DIR', help="folder of the data, not the config's")
    add_settings(
        parser,
        'replace settings of the config, such as train_cfg.max_epochs=1 or '
        'key="[(a,b),(c,d)]" (no spaces inside a value)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of the processes of a distributed run (default: none)',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, action=LocalRank, help=argparse.SUPPRESS
    )


def at_least_one(text: str) -> int:
    """Convert an argument to an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{number} must be at least 1')
    return number


def image_size(text: str) -> tuple[int, int]:
    """Convert HEIGHTxWIDTH to two integers, in pixels."""
    match = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if not match:
        raise argparse.ArgumentTypeError(
            f'{text} is not an image size; write HEIGHTxWIDTH, such as 800x1344'
        )
    return int(match[1]), int(match[2])
