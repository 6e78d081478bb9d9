"""Check the versions of PyTorch and OpenMMLab, and give the commands that fix problems.

This module imports only the standard library, because the other packages may be broken.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from .errors import UserError, one_line


class UnfitEnvironment(UserError):
    """Report installed packages that do not work with this plug-in.

    This is not an ``ImportError``, because mmengine replaces ImportErrors of ``custom_imports`` by
    one that only lists ``sys.path``, which would hide the remedy.
    """


@dataclass(frozen=True)
class Package:
    """Hold a distribution, its module, and the supported versions ``low <= v < below``."""

    distribution: str
    module: str
    low: str
    below: str | None = None
    optional: bool = False


TORCH = Package('torch', 'torch', '2.1')
# mmdet 3.3 rejects mmcv 2.2. Older versions of mmengine fail on the optimizers of torch >= 2.1.
STACKS = {
    'openmmlab': (
        TORCH,
        Package('mmcv', 'mmcv', '2.0.0rc4', '2.2'),
        Package('mmengine', 'mmengine', '0.10.4', '1'),
        Package('mmdet', 'mmdet', '3.3', '3.4'),
        Package('mmpretrain', 'mmpretrain', '1.2', '1.3', optional=True),
        Package('mmsegmentation', 'mmseg', '1.2.2', '1.3', optional=True),
    ),
    'onedl': (
        TORCH,
        Package('onedl-mmcv', 'mmcv', '2.3', '2.4'),
        Package('onedl-mmengine', 'mmengine', '0.10.8', '1'),
        Package('onedl-mmdetection', 'mmdet', '3.5', '3.6'),
        Package('onedl-mmpretrain', 'mmpretrain', '1.3', '1.4', optional=True),
        Package('onedl-mmsegmentation', 'mmseg', '1.4', '1.5', optional=True),
    ),
}
# Distributions that replace the compiled mmcv by another one.
WRONG_MMCV = {
    'mmcv-lite': 'mmcv-lite lacks the compiled operators that detectors need',
    'mmcv-full': 'mmcv-full belongs to the outdated OpenMMLab 1.x',
}
TRIED_MMCV = {'mmcv': '2.1.0', 'onedl-mmcv': '2.3.6'}
# mmseg imports these packages and does not require them
UNDECLARED = {'mmseg': 'ftfy regex'}
BESIDE = ('torchvision', 'numpy', 'opencv-python', 'opencv-python-headless', 'pycocotools')


def version_key(version: str) -> tuple[tuple[int, ...], int, int]:
    """Return a key that orders versions: ``2.0.0rc4 < 2.0 == 2.0.0+cpu < 2.1``.

    Without the stack, neither ``packaging`` nor mmengine's ``digit_version`` is available.
    """
    match = re.match(r'v?(\d+(?:\.\d+)*)[._-]?(dev|a|b|rc)?(\d*)', version)
    if match is None:
        return (), 0, 0
    release = [int(part) for part in match[1].split('.')]
    while release and release[-1] == 0:
        release.pop()
    phase = ('dev', 'a', 'b', 'rc', None).index(match[2])
    return tuple(release), phase, int(match[3] or 0) if match[2] else 0


def installed_versions() -> dict[str, str]:
    """Return the versions of the installed distributions that this module checks."""
    names = {package.distribution for stack in STACKS.values() for package in stack}
    found = {}
    for name in sorted(names | set(WRONG_MMCV) | set(BESIDE)):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if version:  # a partially removed distribution has none
            found[name] = version
    return found


def stack_of(installed: Mapping[str, str]) -> str:
    """Return the name of the installed stack, the official one by default."""
    return 'onedl' if any(name.startswith('onedl-') for name in installed) else 'openmmlab'


def version_problems(installed: Mapping[str, str]) -> list[str]:
    """Return one sentence for each package that is missing or has an unsupported version."""
    stack = stack_of(installed)
    problems = []
    if stack == 'onedl':
        mixed = sorted({package.distribution for package in STACKS['openmmlab'][1:]} & {*installed})
        forks = [name for name in installed if name.startswith('onedl-')]
        if mixed:
            problems.append(
                f'packages of OneDL ({", ".join(forks)}) and OpenMMLab ({", ".join(mixed)}) '
                f"overwrite each other's files: run `pip uninstall -y {' '.join(forks + mixed)}`, "
                'then install one of the two stacks with `make env` in a clone of dsnet-mm'
            )
    for name, reason in WRONG_MMCV.items():
        if name in installed:
            problems.append(f'{reason}: run `{build_command(stack, uninstall=name)}`')
    if problems:
        return problems
    for package in STACKS[stack]:
        if fault := _fault(package, installed.get(package.distribution)):
            command = build_command(stack) if package.module == 'mmcv' else install_command(package)
            problems.append(f'{package.distribution} {fault}: run `{command}`')
    if stack == 'openmmlab' and 'mmengine' in installed and find_spec('pkg_resources') is None:
        problems.append(
            'mmengine needs pkg_resources, which the installed setuptools does not provide: run '
            '`pip install "setuptools<81"`'
        )
    return problems


def _fault(package: Package, version: str | None) -> str:
    """Return why a package does not work with this plug-in, or an empty string."""
    if version is None:
        # A source folder on the path has no metadata, so its version cannot be checked.
        if package.optional or find_spec(package.module) is not None:
            return ''
        return 'is not installed'
    if version_key(version) < version_key(package.low):
        return f'{version} is too old, it must be at least {package.low}'
    if package.below and version_key(version) >= version_key(package.below):
        return f'{version} is too new, it must be below {package.below}'
    return ''


def install_command(package: Package) -> str:
    """Return the command that installs a supported version of a package."""
    bounds = f'>={package.low}' + (f',<{package.below}' if package.below else '')
    more = UNDECLARED.get(package.module, '')
    return f'pip install "{package.distribution}{bounds}" {more}'.rstrip()


def check_optional(module: str, user: str) -> None:
    """Check that an optional package can be imported.

    Args:
        module: The module of the package, such as 'mmseg'.
        user: What needs the package, as the error message begins.

    Raises:
        UnfitEnvironment: If it cannot be imported.
    """
    stack = STACKS[stack_of(installed_versions())]
    package = next((package for package in stack if package.module == module), None)
    if package is None or not package.optional:
        return
    try:
        importlib.import_module(f'{module}.models')
    except Exception as error:  # a broken binary can raise any error
        raise UnfitEnvironment(
            f'{user} needs {package.distribution}, which cannot be imported '
            f'({one_line(error)[:200]}); run `{install_command(package)}`'
        ) from error


def build_command(stack: str, uninstall: str = '') -> str:
    """Return the commands that build and install the mmcv of ``stack`` for the installed torch."""
    name = 'onedl-mmcv' if stack == 'onedl' else 'mmcv'
    remove = f'pip uninstall -y {uninstall} && ' if uninstall else ''
    return (
        f'{remove}pip install "setuptools>=80,<81" wheel ninja packaging && MMCV_WITH_OPS=1 pip '
        f'install --no-build-isolation --no-cache-dir --force-reinstall --no-deps '
        f'{name}=={TRIED_MMCV[name]}'
    )


def import_problems(installed: Mapping[str, str]) -> list[str]:
    """Return a sentence on the first installed binary package that cannot be imported."""
    torch = installed.get('torch', '')
    advice = {
        'torch': f'run `pip install --force-reinstall --no-deps torch=={torch}`',
        'torchvision': f'run `{_torchvision_command(torch)}`',
        'cv2': 'run `pip uninstall -y opencv-python opencv-python-headless && '
        'pip install opencv-python-headless`',
        'mmcv.ops': 'mmcv was built without its operators or for another torch; run '
        f'`{build_command(stack_of(installed))}`',
    }
    for module, what_to_do in advice.items():
        if find_spec(module.partition('.')[0]) is None:
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken binary can raise any error
            reason = one_line(error)[:200]
            # Later modules import earlier ones, so only the first failure is the cause.
            return [f'{module} cannot be imported with torch {torch} ({reason}): {what_to_do}']
    return []


def _torchvision_command(torch: str) -> str:
    release = version_key(torch)[0]
    # torchvision 0.(N + 15) belongs to torch 2.N.
    if len(release) < 2 or release[0] != 2:
        return 'pip install --force-reinstall torch torchvision'
    return f'pip install --force-reinstall --no-deps "torchvision==0.{release[1] + 15}.*"'


def problems() -> list[str]:
    """Return one sentence for each problem that keeps this plug-in from working, worst first."""
    installed = installed_versions()
    return version_problems(installed) or import_problems(installed)


def register_modules() -> None:
    """Register the models and hooks of this project with OpenMMLab.

    Raises:
        UnfitEnvironment: If a required package is missing, broken or has an unsupported version.
    """
    try:
        for module in ('models', 'weights.address', 'weights.model_hub', 'engine'):
            importlib.import_module(f'dsnet_mm.{module}')
    except Exception as error:  # wrong versions and broken binaries can raise any error
        found = problems()
        if not found:
            raise
        more = ' (run `dsnet-mm doctor` for the other problems)' if len(found) > 1 else ''
        raise UnfitEnvironment(found[0] + more) from error


def runs_own_command() -> bool:
    """Return whether this process is `dsnet-mm`, or a script in `tools` that does the same."""
    # Python imports the package before it runs the module; argv[0] is still '-m' then.
    words = sys.orig_argv
    as_module = sys.argv[:1] == ['-m'] and words[words.index('-m') + 1 :][:1] == ['dsnet_mm']
    script = Path(sys.argv[0] if sys.argv else '')
    tools = Path(__file__).resolve().parents[1] / 'tools'
    return as_module or script.name == 'dsnet-mm' or script.resolve().parent == tools


def configs_dir() -> Path:
    """Return the folder of this project's configs, in a clone or in an installed wheel.

    Raises:
        UnfitEnvironment: If the package was copied without its configs.
    """
    package = Path(__file__).resolve().parent
    if (package / '.mim' / 'configs').is_dir():
        return package / '.mim' / 'configs'
    clone = package.parent
    if (clone / 'setup.py').is_file() and (clone / 'configs').is_dir():
        return clone / 'configs'
    raise UnfitEnvironment(
        f'{package} lacks its configs: run `pip install .` in a clone of dsnet-mm'
    )
