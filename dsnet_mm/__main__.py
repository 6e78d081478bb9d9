"""``python -m dsnet_mm``: report the environment, what is wrong with it and what to type.

Works where mmcv or torchvision cannot be imported, for that is when it is needed.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator, Mapping

from .environment import STACKS, build_command, installed_versions, problems, stack_of
from .version import __version__


def _devices() -> Iterator[str]:
    torch = importlib.import_module('torch')
    for index in range(torch.cuda.device_count()):
        chip = torch.cuda.get_device_properties(index)
        yield f'{chip.name}, {chip.total_memory / 2**30:.0f} GiB, for CUDA {torch.version.cuda}'
    yield f'CPU, {torch.get_num_threads()} threads'


def _compiled_ops() -> Iterator[str]:
    ops = importlib.import_module('mmcv.ops')
    cuda = ops.get_compiling_cuda_version()
    device = 'the CPU alone' if cuda == 'not available' else f'CPU and CUDA {cuda}'
    yield f'of mmcv, for {device}, by {ops.get_compiler_version()}'


def _as_far_as_known(facts: Iterator[str]) -> Iterator[str]:
    """Yield facts until something they need is missing, broken or of another kind, then say so."""
    try:
        yield from facts
    except Exception as error:  # a wrong binary raises whatever its loader likes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        yield f'not found out ({reason})'


def _device_problems(stack: str) -> Iterator[str]:
    torch = importlib.import_module('torch')
    ops = importlib.import_module('mmcv.ops')
    if torch.cuda.is_available() and ops.get_compiling_cuda_version() == 'not available':
        yield (
            'mmcv was compiled without CUDA, so that detectors fail on the GPU: with the CUDA '
            f'toolkit installed type `export FORCE_CUDA=1 && {build_command(stack)}`, or set '
            'CUDA_VISIBLE_DEVICES= (empty) to work on the CPU'
        )


def _use_problems() -> Iterator[str]:
    for module in ('mmdet', 'mmpretrain', 'dsnet_mm.models', 'dsnet_mm.engine'):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != 'mmpretrain':  # the optional one
                yield f'{module} cannot be imported: {error}'
        except Exception as error:  # a report names every fault, of whatever kind
            yield f'{module} cannot be imported: {type(error).__name__}: {error}'


def report(installed: Mapping[str, str]) -> list[str]:
    """Print what is installed and return one sentence for each thing that is wrong.

    Args:
        installed: distribution name to version.
    """
    stack = stack_of(installed)
    print(f'dsnet-mm {__version__} on Python {platform.python_version()}, {platform.platform()}')
    print(f'python: {sys.executable}')
    print(f'stack: {stack}')
    wanted = [package.distribution for package in STACKS[stack]]
    for name in [*wanted, *sorted(set(installed) - set(wanted))]:
        print(f'  {name} {installed.get(name, "is not installed")}')
    found = problems()
    sys.stdout.flush()  # before what a wrong binary may end without a word
    for device in _as_far_as_known(_devices()):
        print(f'device: {device}')
    for ops in _as_far_as_known(_compiled_ops()):
        print(f'compiled operations: {ops}')
    return found or [*_device_problems(stack), *_use_problems()]


def main() -> None:
    """Report, and end with status 1 if something is wrong."""
    found = report(installed_versions())
    for sentence in found:
        print(f'wrong: {sentence}')
    if not found:
        print('all of it fits')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
