"""Run the command `dsnet-mm`, with one module per subcommand.

A subcommand module has `add_arguments(parser)` and `run(args)`, and its docstring is the help text.
Modules import PyTorch and OpenMMLab inside `run`, so that help appears at once and
`dsnet-mm doctor` works without these packages.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from dsnet_mm.environment import register_modules
from dsnet_mm.errors import UserError
from dsnet_mm.version import __version__

COMMANDS = {
    'train': 'train a model from a config',
    'test': 'evaluate a checkpoint with the metrics of its config',
    'predict': 'detect objects in images or a video',
    'app': 'show detections and streams on a web page',
    'export': 'export a model to ONNX',
    'weights': 'download, verify and convert pretrained weights',
    'compare': 'train and compare detectors',
    'info': 'count parameters and MACs',
    'benchmark': 'measure time and memory',
    'shapes': 'draw a synthetic dataset',
    'streams': 'draw what a block of DS-Net or GLNet attends to',
    'check-data': 'check a COCO dataset before training',
    'convert-data': 'convert a VOC or YOLO dataset to COCO, or divide a COCO dataset',
    'new-config': 'write a fine-tuning config for a COCO dataset',
    'demo': 'train, evaluate and draw a small detector',
    'doctor': 'check the installed packages',
}
"""Subcommands with one line of help each."""

LIGHT = ('doctor', 'convert-data', 'shapes', 'predict', 'test')
"""Subcommands that need no registered model, or register models themselves if they need them."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand and end the process.

    A :class:`UserError` prints one line on standard error and exits with status 1. Any other
    exception is a bug and keeps its traceback.

    Args:
        argv: Arguments after `dsnet-mm` (default: those of this process).
    """
    name, *words = (sys.argv[1:] if argv is None else [*argv]) or ['--help']
    if name in ('-h', '--help', 'help'):
        print(overview())
        sys.exit(0)
    if name in ('-V', '--version'):
        print(f'dsnet-mm {__version__}')
        sys.exit(0)
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f'did you mean `dsnet-mm {close[0]}`?' if close else 'run `dsnet-mm --help`'
        print(f'error: dsnet-mm has no command {name}; {advice}', file=sys.stderr)
        sys.exit(2)
    # mmengine imports pkg_resources, which warns of its own removal
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    try:
        args = parse(name, words)
        if name not in LIGHT:
            register_modules()
        load(name).run(args)
        end: int | str = 0
    except UserError as error:
        end = f'error: {error}'
    except KeyboardInterrupt:
        end = 'error: interrupted'
    # outside of `except`, where the error no longer keeps a progress bar alive
    sys.exit(end)


def parse(name: str, words: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of a subcommand."""
    module = load(name)
    parser = argparse.ArgumentParser(
        prog=f'dsnet-mm {name}',
        description=module.__doc__,
        epilog=getattr(module, 'EPILOG', None),
        argument_default=getattr(module, 'DEFAULT', None),
    )
    module.add_arguments(parser)
    return parser.parse_intermixed_args(words)  # options are allowed between positional arguments


def load(name: str):
    """Import the module of a subcommand."""
    return import_module(f'dsnet_mm.cli.{name.replace("-", "_")}')


def overview() -> str:
    """Return the help text of `dsnet-mm` itself."""
    width = max(map(len, COMMANDS))
    lines = (f'  {name:{width}}  {text}' for name, text in COMMANDS.items())
    return (
        'usage: dsnet-mm COMMAND [ARGUMENTS]\n\n'
        'DS-Net (Dual-stream Network for Visual Recognition) for OpenMMLab.\n\n'
        'commands:\n' + '\n'.join(lines) + '\n\nRun `dsnet-mm COMMAND --help` for the arguments.'
    )
