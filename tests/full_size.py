"""The COCO configs at full size, by `make full`.

Its name keeps it out of `make test`: it takes minutes for each config. The images are COCO
photographs, of data/coco where it is there.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from helpers.commands import run_command
from helpers.paths import ROOT, SHARED

OWN = ROOT / 'data' / 'coco'
DATA = OWN if OWN.is_dir() else SHARED / 'coco_mini'
CONFIGS = sorted((ROOT / 'configs').glob('*_coco.py'))


def train(path: Path, work_dir: Path, *arguments: str) -> tuple[list[float], str]:
    """Train from scratch; return the loss of every iteration, and the log."""
    options = ['model.backbone.init_cfg=None', 'default_hooks.logger.interval=1']
    if 'swin' not in path.stem:
        options += ['model.backbone.norm_eval=False']
    done = run_command('train', path, '--data-root', DATA, '--work-dir', work_dir,
                '--cfg-options', *options, *arguments)  # fmt: skip
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-2000:]
    return [float(loss) for loss in re.findall(r'(?:Epoch|Iter)\(train\).* loss: (\S+)', log)], log


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_iterations_and_evaluation(path, tmp_path):
    """On two images, one at a time, and two others."""
    cfg = Config.fromfile(path)
    by_epoch = 'max_epochs' in cfg.train_cfg
    # a model that learned nothing is sure of nothing
    rcnn = 'rcnn.' if 'rcnn' in cfg.model.test_cfg else ''
    losses, log = train(
        path,
        tmp_path,
        f'model.test_cfg.{rcnn}score_thr=0.0',
        'train_cfg.max_epochs=1' if by_epoch else 'train_cfg.max_iters=2',
        'train_dataloader.batch_size=1',
        'train_dataloader.dataset.indices=2',
        'val_dataloader.dataset.indices=2',
    )
    print(f'\n{path.stem}: losses {losses}')
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    metrics = cfg.val_evaluator.metric
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        assert re.search(rf'coco/{metric}_mAP: \d', log)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='mmengine has it on GPUs only')
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_a_thousand_steps_in_mixed_precision(dtype, tmp_path):
    path = ROOT / 'configs' / 'retinanet_dsnet_s_fpn_1x_coco.py'
    losses, _ = train(
        path,
        tmp_path,
        'optim_wrapper.type=AmpOptimWrapper',
        f'optim_wrapper.dtype={dtype}',
        'train_dataloader.dataset.indices=320',
        'train_cfg.max_epochs=7',
        'train_cfg.val_interval=7',
    )
    print(f'\n{dtype}: {len(losses)} steps, the last losses {losses[-5:]}')
    assert len(losses) >= 1000
    assert all(math.isfinite(loss) for loss in losses)
