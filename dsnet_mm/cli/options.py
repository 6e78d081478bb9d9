"""Define arguments that several subcommands share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

from dsnet_mm.deploy.runtimes import DEFAULT_RUNTIME, RUNTIMES
from dsnet_mm.errors import UserError


class LocalRank(argparse.Action):
    """Pass the `--local-rank` of a launcher to mmengine, which reads `LOCAL_RANK`."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        """Set the variable unless the launcher has set it."""
        os.environ.setdefault('LOCAL_RANK', str(value))


def setting(text: str) -> str:
    """Check that an argument is KEY=VALUE, whose value `read_settings` parses later."""
    key, separator, value = text.partition('=')
    if not separator:
        raise argparse.ArgumentTypeError(f'{text} lacks a value; write KEY=VALUE')
    if re.search(r"\{\s*['\"]|\bdict\(", value):  # mmengine would take it for a text
        raise argparse.ArgumentTypeError(
            f'{text} has a dict as value; set its entries one by one, such as {key}.type=VALUE'
        )
    return text


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
        '--cfg-options', nargs='+', action='extend', type=setting, metavar='KEY=VALUE', help=help
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


def picture(text: str) -> str:
    """Check the name of a picture to write."""
    if os.path.splitext(text)[1] not in ('.png', '.svg'):
        raise argparse.ArgumentTypeError(f'{text} must end in .png or .svg')
    return text


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add `--precision`, which only configs have."""
    parser.add_argument(
        '--precision',
        choices=('fp32', 'bf16'),
        help='bf16 computes backbone and neck in bfloat16, if the processor or GPU has '
        'instructions for it (default: fp32)',
    )


def refuse_for_graph(args: argparse.Namespace, *names: str) -> None:
    """Check that none of the options ``names``, which are for configs, is passed with a graph.

    Raises:
        UserError: If one is.
    """
    for name in names:
        if getattr(args, name):
            option = f'--{name.replace("_", "-")}'
            raise UserError(f'{option} is for a config, but {args.model} is a graph; omit {option}')


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add `--runtime`, which only graphs have."""
    parser.add_argument(
        '--runtime', choices=RUNTIMES, help=f'what runs a graph (default: {DEFAULT_RUNTIME})'
    )


def check_graph(args: argparse.Namespace, more: str = '') -> None:
    """Check that a graph has no checkpoint, and that any other `model` has one and no `runtime`.

    Args:
        args: The arguments, with `model`, `checkpoint` and `runtime`.
        more: Later positional arguments with a space before each, for the message.

    Raises:
        UserError: If the arguments do not belong together.
    """
    is_graph = args.model.lower().endswith('.onnx')
    if is_graph and args.checkpoint is not None:
        raise UserError(
            f'the graph {args.model} contains its weights; omit the checkpoint {args.checkpoint}'
        )
    if not is_graph and args.checkpoint is None:
        raise UserError(
            f'the config {args.model} needs a checkpoint; pass CONFIG CHECKPOINT{more}, or a '
            f'graph: GRAPH.onnx{more}'
        )
    if not is_graph and args.runtime:
        raise UserError(
            f'--runtime {args.runtime} is for graphs, but {args.model} is a config; omit --runtime'
        )
