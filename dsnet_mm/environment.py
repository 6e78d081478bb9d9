"""Which PyTorch and OpenMMLab versions this plug-in works with, and what to type where it does not.

Standard library only: it has to work exactly where the packages it judges do not.
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

from .errors import UserError


class UnfitEnvironment(UserError):
    """The installed packages do not fit this plug-in.

    Not an ``ImportError``: mmengine replaces those of ``custom_imports`` by one that only lists
    ``sys.path``, and the user would never read what to do.
    """


@dataclass(frozen=True)
class Package:
    """A distribution, the module it provides and the versions that fit: ``low <= v < below``."""

    distribution: str
    module: str
    low: str
    below: str | None = None
    optional: bool = False

    @property
    def requirement(self) -> str:
        """The bounds as pip takes them."""
        return f'{self.distribution}>={self.low}' + (f',<{self.below}' if self.below else '')


TORCH = Package('torch', 'torch', '2.1')
# mmdet 3.3 itself refuses mmcv 2.2; older mmengines fail on torch >= 2.1's optimizers.
STACKS = {
    'openmmlab': (
        TORCH,
        Package('mmcv', 'mmcv', '2.0.0rc4', '2.2'),
        Package('mmengine', 'mmengine', '0.10.4', '1'),
        Package('mmdet', 'mmdet', '3.3', '3.4'),
        Package('mmpretrain', 'mmpretrain', '1.2', '1.3', optional=True),
    ),
    'onedl': (
        TORCH,
        Package('onedl-mmcv', 'mmcv', '2.3', '2.4'),
        Package('onedl-mmengine', 'mmengine', '0.10.8', '1'),
        Package('onedl-mmdetection', 'mmdet', '3.5', '3.6'),
        Package('onedl-mmpretrain', 'mmpretrain', '1.3', '1.4', optional=True),
    ),
}
# Distributions that put another mmcv in the place of the compiled one.
WRONG_MMCV = {
    'mmcv-lite': 'mmcv-lite lacks the compiled operations that detectors need',
    'mmcv-full': 'mmcv-full belongs to the outdated OpenMMLab 1.x',
}
TRIED_MMCV = {'mmcv': '2.1.0', 'onedl-mmcv': '2.3.6'}
BESIDE = ('torchvision', 'numpy', 'opencv-python', 'opencv-python-headless', 'pycocotools')


def version_key(version: str) -> tuple[tuple[int, ...], int, int]:
    """Return a key that orders versions: ``2.0.0rc4 < 2.0 == 2.0.0+cpu < 2.1``.

    Neither ``packaging`` nor a ``digit_version`` is there when the stack is missing.
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
    """Return the version of every distribution that matters here and is installed."""
    names = {package.distribution for stack in STACKS.values() for package in stack}
    found = {}
    for name in sorted(names | set(WRONG_MMCV) | set(BESIDE)):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if version:  # a half removed distribution has none
            found[name] = version
    return found


def stack_of(installed: Mapping[str, str]) -> str:
    """Return the name of the stack that ``installed`` belongs to, the official one by default."""
    return 'onedl' if any(name.startswith('onedl-') for name in installed) else 'openmmlab'


def version_problems(installed: Mapping[str, str]) -> list[str]:
    """Return one sentence for each thing in ``installed`` that is missing or does not fit.

    Args:
        installed: distribution name to version, as :func:`installed_versions` returns it.
    """
    stack = stack_of(installed)
    problems = []
    others = {p.distribution for p in STACKS['openmmlab']} - {'torch'}
    mixed = sorted(others & set(installed)) if stack == 'onedl' else []
    if mixed:
        both = [name for name in installed if name.startswith('onedl-')] + mixed
        problems.append(
            f'{_listed(mixed)} of OpenMMLab and {_listed(both[: -len(mixed)])} of OneDL overwrite '
            f"each other's files: type `pip uninstall -y {' '.join(both)}`, then install one of "
            'the two stacks with `make env` in a clone of dsnet-mm'
        )
    for name, reason in WRONG_MMCV.items():
        if name in installed:
            problems.append(f'{reason}: type `{build_command(stack, uninstall=name)}`')
    if problems:
        return problems
    for package in STACKS[stack]:
        problems += _bounds_problem(package, installed)
    if stack == 'openmmlab' and 'mmengine' in installed and find_spec('pkg_resources') is None:
        problems.append(
            'mmengine needs pkg_resources, which this setuptools lacks or setuptools is missing: '
            'type `pip install "setuptools<81"`'
        )
    return problems


def _bounds_problem(package: Package, installed: Mapping[str, str]) -> list[str]:
    name, version = package.distribution, installed.get(package.distribution)
    if version is None:
        # A source folder on the path carries no metadata; its version is its owner's business.
        if package.optional or find_spec(package.module) is not None:
            return []
        fault = f'{name} is not installed'
    elif version_key(version) < version_key(package.low):
        fault = f'{name} {version} is too old, {package.low} is the first that fits'
    elif package.below and version_key(version) >= version_key(package.below):
        fault = f'{name} {version} is too new, it has to be below {package.below}'
    else:
        return []
    if name in TRIED_MMCV:
        return [f'{fault}: type `{build_command(stack_of({name: ""}))}`']
    return [f'{fault}: type `pip install "{package.requirement}"`']


def build_command(stack: str, uninstall: str = '') -> str:
    """Return the commands that build and install the mmcv of ``stack`` for the torch at hand."""
    name = 'onedl-mmcv' if stack == 'onedl' else 'mmcv'
    remove = f'pip uninstall -y {uninstall} && ' if uninstall else ''
    return (
        f'{remove}pip install "setuptools>=80,<81" wheel ninja packaging && MMCV_WITH_OPS=1 pip '
        f'install --no-build-isolation --no-cache-dir --force-reinstall --no-deps '
        f'{name}=={TRIED_MMCV[name]}'
    )


def import_problems(installed: Mapping[str, str]) -> list[str]:
    """Return one sentence for each of the compiled packages that is there but does not import."""
    torch = installed.get('torch', '')
    advice = {
        'torch': f'type `pip install --force-reinstall --no-deps torch=={torch}`',
        'torchvision': f'type `{_torchvision_command(torch)}`',
        'cv2': 'type `pip uninstall -y opencv-python opencv-python-headless && '
        'pip install opencv-python-headless`',
        'mmcv.ops': 'it was built without its operations or for another torch, so '
        f'type `{build_command(stack_of(installed))}`',
    }
    for module, what_to_do in advice.items():
        if find_spec(module.partition('.')[0]) is None:
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # a wrong binary raises whatever its loader likes
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            # The later ones import the earlier ones: only the first failure is the cause.
            return [f'{module} cannot be imported beside torch {torch} ({reason}): {what_to_do}']
    return []


def _torchvision_command(torch: str) -> str:
    release = version_key(torch)[0]
    # torchvision 0.(N + 15) belongs to torch 2.N.
    if len(release) < 2 or release[0] != 2:
        return 'pip install --force-reinstall torch torchvision'
    return f'pip install --force-reinstall --no-deps "torchvision==0.{release[1] + 15}.*"'


def problems() -> list[str]:
    """Return one sentence for each thing that keeps this plug-in from working, worst first."""
    installed = installed_versions()
    return version_problems(installed) or import_problems(installed)


def register_modules() -> None:
    """Register the models and hooks of this project with OpenMMLab.

    Raises:
        UnfitEnvironment: If a package that they need is missing, broken or of an unfit version.
    """
    try:
        for module in ('models', 'weights.address', 'engine'):
            importlib.import_module(f'dsnet_mm.{module}')
    except Exception as error:  # wrong versions and wrong binaries raise whatever they like
        found = problems()
        if not found:
            raise
        more = ' (run `dsnet-mm doctor` for the other problems)' if len(found) > 1 else ''
        raise UnfitEnvironment(found[0] + more) from error


def runs_own_command() -> bool:
    """Return whether this process is `dsnet-mm` or `dsnet-mm doctor`."""
    # While Python looks for the module to run, it imports the package, with '-m' as argv[0].
    words = sys.orig_argv
    as_module = sys.argv[:1] == ['-m'] and words[words.index('-m') + 1 :][:1] == ['dsnet_mm']
    return as_module or Path(sys.argv[0] if sys.argv else '').name == 'dsnet-mm'


def configs_dir() -> Path:
    """Return the folder of this project's configs, in a clone as in an installed wheel.

    Raises:
        UnfitEnvironment: if the package was copied without its configs.
    """
    package = Path(__file__).resolve().parent
    if (package / '.mim' / 'configs').is_dir():
        return package / '.mim' / 'configs'
    clone = package.parent
    if (clone / 'setup.py').is_file() and (clone / 'configs').is_dir():
        return clone / 'configs'
    raise UnfitEnvironment(
        f'{package} lacks its configs: type `pip install .` in a clone of dsnet-mm'
    )


def _listed(names: list[str]) -> str:
    return ', '.join(names[:-1]) + ' and ' + names[-1] if len(names) > 1 else names[0]
