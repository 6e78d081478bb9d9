"""The plug-in installed elsewhere, in the hands of mmdet's own train script."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

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
def installed(tmp_path_factory) -> Path:
    """A folder into which pip installed the project, and nothing else."""
    target = tmp_path_factory.mktemp('site')
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation']
    subprocess.run([*pip, '--target', str(target), str(ROOT)], check=True)
    return target


def run(site: Path, folder: Path, *args: object) -> str:
    """Run Python with the installed plug-in, in an empty folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


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
    config = configs / 'demo' / 'retinanet_dsnet_t_shapes.py'
    log = run(installed, tmp_path, MMDET_TRAIN, config, '--cfg-options', *OPTIONS)
    assert 'Saving checkpoint at 1 epochs' in log
