"""The whole path on real COCO photographs, with the configs and tools as they are shipped."""

import pytest

from helpers.commands import run_command
from helpers.configs import as_options
from helpers.detectors import FEW_REGIONS
from helpers.paths import SHARED

SMALL = [
    'model.backbone.init_cfg=None',
    'model.backbone.norm_eval=False',
    'model.backbone.arch=tiny',
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.indices=8',
    'val_dataloader.dataset.indices=8',
    'test_dataloader.dataset.indices=8',
    'train_dataloader.dataset.pipeline.2.scale=(224,128)',
    'val_dataloader.dataset.pipeline.1.scale=(224,128)',
    'test_dataloader.dataset.pipeline.1.scale=(224,128)',
    'default_hooks.logger.interval=1',
]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ('config', 'options', 'metrics'),
    [
        ('retinanet_dsnet_s_fpn_1x_coco', ['model.test_cfg.score_thr=0.0'], ['bbox']),
        (
            'mask_rcnn_dsnet_s_fpn_1x_coco',
            as_options(FEW_REGIONS),
            ['bbox', 'segm'],
        ),
    ],
)
def test_train_and_test(config, options, metrics, tmp_path):
    path = f'configs/{config}.py'
    common = ['--data-root', SHARED / 'coco_mini', '--work-dir', tmp_path]
    common += ['--cfg-options', *SMALL, *options]
    done = run_command('train', path, *common)
    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert 'Epoch(train) [1][4/4]' in log
    assert 'loss: nan' not in log
    done = run_command('test', path, tmp_path / 'epoch_1.pth', *common)
    assert done.returncode == 0, done.stderr
    for metric in metrics:
        assert f'coco/{metric}_mAP: ' in done.stdout + done.stderr
