"""The plug-in installed elsewhere, in the hands of mmdet's own train script."""

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.commands import run_process
from helpers.paths import ROOT

MMDET_TRAIN = Path(importlib.util.find_spec('mmdet').origin).parent / '.mim/tools/train.py'

CONFIG = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['dsnet_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, type='DSNet', norm_eval=False),
    neck=dict(in_channels=[64, 128, 320, 512]))
"""
OPTIONS = [
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.indices=4',
    'train_dataloader.dataset.pipeline.2.scale=(96,96)',
    'val_dataloader.dataset.pipeline.1.scale=(96,96)',
]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Iterator[zipfile.ZipFile]:
    """The wheel of this project, built from a copy so that the clone stays as it is."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'a clone'
    source.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md',
                 'model-index.yml'):  # fmt: skip
        shutil.copy2(ROOT / name, source)
    for name in ('dsnet_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, source / name)
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
    subprocess.run([*command, '-w', str(folder), str(source)], check=True)
    with zipfile.ZipFile(next(folder.glob('*.whl'))) as archive:
        yield archive


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with what the wheel of this project holds, and nothing else."""
    target = tmp_path_factory.mktemp('site')
    wheel.extractall(target)
    return target


def run(site: Path, folder: Path, *args: object) -> str:
    """Run Python with the installed plug-in, in an empty folder."""
    return run_process(*args, cwd=folder, PYTHONPATH=str(site))


@pytest.mark.slow
def test_a_config_with_nothing_but_the_backbone(installed, shapes_root, tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'coco').symlink_to(shapes_root)
    classes = [
        f'{split}_dataloader.dataset.metainfo.classes=circle,square,star,triangle'
        for split in ('train', 'val')
    ]
    log = run(installed, tmp_path, MMDET_TRAIN, 'config.py', '--cfg-options', *OPTIONS, *classes)
    assert 'Epoch(train) [1][2/2]' in log
    assert (tmp_path / 'work_dirs' / 'config' / 'epoch_1.pth').exists()


@pytest.mark.slow
def test_the_installed_configs(installed, shapes_root, tmp_path):
    where = run(installed, tmp_path, '-c', 'import dsnet_mm; print(dsnet_mm.configs_dir())')
    configs = Path(where.strip().splitlines()[-1])
    assert configs.is_relative_to(installed)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'shapes').symlink_to(shapes_root)
    config = configs / 'demo' / 'retinanet_dsnet_mini_shapes.py'
    log = run(installed, tmp_path, MMDET_TRAIN, config, '--cfg-options', *OPTIONS)
    assert 'Saving checkpoint at 1 epochs' in log


@pytest.mark.slow
def test_wheel_holds_code_configs_and_tools(wheel):
    names = set(wheel.namelist())
    for folder, pattern in (('dsnet_mm', '*.py'), ('configs', '*.py'), ('tools', '*.py')):
        for file in (ROOT / folder).rglob(pattern):
            name = str(file.relative_to(ROOT))
            packed = name if folder == 'dsnet_mm' else f'dsnet_mm/.mim/{name}'
            # The installer is of use in a clone only.
            assert (packed in names) is not name.startswith('tools/install'), packed
    assert any(name.startswith('dsnet_mm/.mim/tools/') for name in names)
    assert any(name.endswith('/LICENSE') for name in names)
    assert all(name.startswith('dsnet_mm') for name in names)


@pytest.mark.slow
def test_installing_the_wheel_brings_no_torch_but_for_extras(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith('/METADATA')]
    text = wheel.read(name).decode()
    needs = re.findall('^Requires-Dist: (.*)$', text, re.MULTILINE)
    for stack in ('openmmlab', 'onedl', 'export', 'openvino', 'segmentation', 'app'):
        assert any(re.search(f'extra == .{stack}.', line) for line in needs)
    for line in needs:
        assert 'extra ==' in line
        assert '==' not in line.partition(';')[0], 'a pin would replace a package of the user'
    assert '\nRequires-Python: >=3.10\n' in text
