"""Command-line options shared by several commands."""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction

from dsnet_mm.errors import UserError


class LocalRank(argparse.Action):
    """Pass the rank in the option of a launcher to mmengine, as an environment variable."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        """Store ``value`` unless the launcher has set the variable itself."""
        os.environ.setdefault('LOCAL_RANK', str(value))


class Settings(DictAction):
    """Read settings of a config, KEY=VALUE each."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Store the settings as a dict; report a setting without a value."""
        for setting in values:
            if '=' not in setting:
                parser.error(f'{option_string} {setting} lacks a value; write KEY=VALUE')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:
            parser.error(
                f'{option_string} {" ".join(values)} cannot be parsed; correct it ({error})'
            )


def check_at_least_one(args: argparse.Namespace, *names: str) -> None:
    """Check that the given numbers are at least 1; an omitted option is None.

    Raises:
        UserError: If there is one.
    """
    for name in names:
        number = getattr(args, name)
        if number is not None and number < 1:
            raise UserError(f'--{name} {number} must be at least 1')


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument('--data-root', metavar='DIR', help="folder of the data, not the config's")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        metavar='KEY=VALUE',
        help='replace settings of the config, such as train_cfg.max_epochs=1 or '
        'key="[(a,b),(c,d)]" (no blanks inside a value)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started (default: none)',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, action=LocalRank, help=argparse.SUPPRESS
    )
