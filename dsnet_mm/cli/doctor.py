"""Check the installed packages and print the command that fixes each problem."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Iterator, Mapping

from dsnet_mm.environment import STACKS, build_command, installed_versions, problems, stack_of
from dsnet_mm.errors import one_line
from dsnet_mm.version import __version__

EPILOG = 'The exit status is 1 if there is a problem. Add the output to bug reports.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(args: argparse.Namespace) -> None:
    """Print the report, and exit with status 1 if there is a problem."""
    found = report(installed_versions())
    for sentence in found:
        print(f'problem: {sentence}')
    if not found:
        print('no problems')
    sys.exit(1 if found else 0)


def report(installed: Mapping[str, str]) -> list[str]:
    """Print the installed packages and devices, and return one sentence per problem."""
    stack = stack_of(installed)
    print(f'dsnet-mm {__version__}, Python {platform.python_version()}, {platform.platform()}')
    print(f'python: {sys.executable}')
    print(f'stack: {stack}')
    wanted = [package.distribution for package in STACKS[stack]]
    for name in [*wanted, *sorted(set(installed) - set(wanted))]:
        print(f'  {name} {installed.get(name, "is not installed")}')
    found = problems()
    sys.stdout.flush()  # a broken binary may crash this process
    for device in _as_far_as_known(_devices()):
        print(f'device: {device}')
    for operators in _as_far_as_known(_compiled_operators()):
        print(f'mmcv operators: {operators}')
    return found or [*_device_problems(stack), *_import_problems()]


def _devices() -> Iterator[str]:
    torch = importlib.import_module('torch')
    for index in range(torch.cuda.device_count()):
        chip = torch.cuda.get_device_properties(index)
        yield f'{chip.name}, {chip.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}'
    yield f'CPU, {torch.get_num_threads()} threads'


def _compiled_operators() -> Iterator[str]:
    ops = importlib.import_module('mmcv.ops')
    cuda = ops.get_compiling_cuda_version()
    device = 'CPU' if cuda == 'not available' else f'CPU and CUDA {cuda}'
    yield f'compiled for {device} with {ops.get_compiler_version()}'


def _as_far_as_known(facts: Iterator[str]) -> Iterator[str]:
    """Yield facts until a required package is missing or broken, then yield the reason."""
    try:
        yield from facts
    except Exception as error:  # a broken binary can raise any error
        yield f'unknown ({one_line(error)[:200]})'


def _device_problems(stack: str) -> Iterator[str]:
    torch = importlib.import_module('torch')
    ops = importlib.import_module('mmcv.ops')
    if torch.cuda.is_available() and ops.get_compiling_cuda_version() == 'not available':
        yield (
            'mmcv was compiled without CUDA, so detectors fail on the GPU: install the CUDA '
            f'toolkit and run `export FORCE_CUDA=1 && {build_command(stack)}`, or set '
            'CUDA_VISIBLE_DEVICES= (empty) to use the CPU'
        )


def _import_problems() -> Iterator[str]:
    for module in ('mmdet', 'mmpretrain', 'mmseg.models', 'dsnet_mm.models', 'dsnet_mm.engine'):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] not in ('mmpretrain', 'mmseg'):  # optional
                yield f'{module} cannot be imported: {error}'
        except Exception as error:  # the report lists every problem
            yield f'{module} cannot be imported: {type(error).__name__}: {error}'
