"""What a resumed training says about changes of its schedule, its batch and its length."""

from __future__ import annotations

import pytest

from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.train import train
from helpers.commands import forget_runners
from helpers.detectors import TINY_DETECTOR

CONFIG = f"""{TINY_DETECTOR}train_dataloader = dict(batch_size=4, **loader)
val_dataloader = test_dataloader = val_evaluator = test_evaluator = val_cfg = test_cfg = None
train_cfg = dict(max_epochs=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
    dict(type='CosineAnnealingLR', begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
]
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory, shapes_root):
    """A function that trains in a work dir and returns the warnings of its log."""
    folder = tmp_path_factory.mktemp('resume')
    config = folder / 'config.py'
    config.write_text(CONFIG)

    def run(resume=None, work_dir=folder / 'work', **options):
        forget_runners()
        options = {name.replace('__', '.'): value for name, value in options.items()}
        train(load_config(str(config), str(work_dir), options, str(shapes_root)), resume=resume)
        logs = sorted(work_dir.glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns)
        lines = logs[-1].read_text(encoding='utf-8').splitlines()
        return [line.partition('WARNING - ')[2] for line in lines if 'WARNING - ' in line]

    run()
    run.checkpoint = folder / 'work' / 'epoch_1.pth'
    return run


def about(warnings, checkpoint):
    return [line for line in warnings if str(checkpoint) in line]


def test_a_longer_schedule_is_not_taken_over_silently(trained, tmp_path):
    (warning,) = about(
        trained(str(trained.checkpoint), tmp_path, train_cfg__max_epochs=3), trained.checkpoint
    )
    assert 'end 2 instead of 6 iterations' in warning
    assert f'load_from={trained.checkpoint} and another --work-dir' in warning


def test_another_batch_size_names_both(trained, tmp_path):
    """Resume an epoch-based schedule, whose length in iterations changes with the batch."""
    schedule, batch = about(
        trained(
            str(trained.checkpoint),
            tmp_path,
            train_cfg__max_epochs=2,
            train_dataloader__batch_size=2,
        ),
        trained.checkpoint,
    )
    assert 'had 2 iterations with batches of 4 images' in batch
    assert 'has 4 with batches of 2' in batch
    assert 'end 2 instead of 8 iterations' in schedule


def test_nothing_is_said_if_nothing_changed(trained, tmp_path):
    config_of_two = dict(train_cfg__max_epochs=2)
    trained(work_dir=tmp_path, **config_of_two)
    checkpoint = tmp_path / 'epoch_1.pth'
    assert not about(trained(str(checkpoint), tmp_path, **config_of_two), checkpoint)


def test_a_finished_training_says_so(trained, tmp_path):
    (warning,) = about(trained(str(trained.checkpoint), tmp_path), trained.checkpoint)
    assert warning == f'{trained.checkpoint} is already trained for 1 of 1 epochs.'
