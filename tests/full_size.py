"""Every COCO config, two iterations of training and an evaluation at full size, by `make full`.

Its name keeps it out of `make test`: it takes minutes for each config. The images are COCO
photographs, of data/coco where it is there: two to learn from, one at a time, and two to
evaluate on.
"""

from __future__ import annotations

import math
import re

import pytest
from conftest import ROOT, SHARED, tool

OWN = ROOT / 'data' / 'coco'
DATA = OWN if OWN.is_dir() else SHARED / 'coco_mini'
CONFIGS = sorted((ROOT / 'configs').glob('*_coco.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_iterations_and_evaluation(path, tmp_path):
    rcnn = 'rcnn.' if path.stem.startswith('mask_rcnn') else ''
    options = [
        'model.backbone.init_cfg=None',
        f'model.test_cfg.{rcnn}score_thr=0.0',  # a model that learned nothing is sure of nothing
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=1',
        'train_dataloader.dataset.indices=2',
        'val_dataloader.dataset.indices=2',
        'default_hooks.logger.interval=1',
    ]
    if 'swin' not in path.stem:
        options += ['model.backbone.norm_eval=False']
    done = tool('train.py', path, '--data-root', DATA, '--work-dir', tmp_path,
                '--cfg-options', *options)  # fmt: skip
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-2000:]
    losses = [float(loss) for loss in re.findall(r'Epoch\(train\).* loss: (\S+)', log)]
    print(f'\n{path.stem}: losses {losses}')
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    for metric in ('bbox', 'segm') if rcnn else ('bbox',):
        assert re.search(rf'coco/{metric}_mAP: \d', log)
