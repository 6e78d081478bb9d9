"""Copy configs and tools into the wheel. pyproject.toml holds all other packaging settings."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# Copied to dsnet_mm/.mim in the wheel, as in the packages of OpenMMLab.
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


class BuildWithConfigs(build_py):
    """Copy configs and tools into the package; editable installs use those of the clone."""

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
                ignore = shutil.ignore_patterns('__pycache__', '*.pyc', 'install*')
                shutil.copytree(source, target / name, ignore=ignore)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


setup(cmdclass={'build_py': BuildWithConfigs})
