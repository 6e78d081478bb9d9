"""Packaging of dsnet-mm. PyTorch and OpenMMLab are extras: installing never replaces them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# Travels inside the wheel as dsnet_mm/.mim, where OpenMMLab's own packages keep theirs.
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


def requirements(name: str) -> list[str]:
    """Return the requirements of ``requirements/<name>.txt``, comments left out."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def read_version() -> str:
    """Return the version written in ``dsnet_mm/version.py``."""
    text = (ROOT / 'dsnet_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '(.+)'", text)[1]


def read_description() -> str:
    """Return the README, the long description of the distribution."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


class BuildWithConfigs(build_py):
    """Copies configs and tools into the package; an editable install reads the clone's own."""

    def run(self) -> None:
        """Build the package, then add ``MIM_CONTENT`` to it."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'dsnet_mm' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        for name in MIM_CONTENT:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__', '*.pyc', 'install*.py')
                shutil.copytree(source, target / name, ignore=ignore)
            elif source.exists():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


setup(
    name='dsnet-mm',
    version=read_version(),
    description='DS-Net (Dual-stream Network for Visual Recognition) as an OpenMMLab plug-in',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='object detection, instance segmentation, backbone, DS-Net, mmdetection',
    packages=find_packages(include=['dsnet_mm', 'dsnet_mm.*']),
    package_data={'dsnet_mm': ['py.typed']},
    python_requires='>=3.10',
    extras_require={name: requirements(name) for name in ('openmmlab', 'onedl', 'export', 'dev')},
    cmdclass={'build_py': BuildWithConfigs},
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
