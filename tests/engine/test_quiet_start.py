"""What the console shows before the first iteration."""

from __future__ import annotations

from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.train import train
from helpers.commands import forget_runners
from helpers.detectors import TINY_DETECTOR

CONFIG = f"""{TINY_DETECTOR}train_dataloader = dict(batch_size=4, **loader)
val_dataloader = test_dataloader = val_evaluator = test_evaluator = val_cfg = test_cfg = None
train_cfg = dict(max_epochs=1)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1))
"""


def test_the_first_loss_is_near_the_start_and_the_file_has_everything(
    tmp_path, shapes_root, capsys
):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    lines = {}
    for level in ('INFO', 'DEBUG'):
        forget_runners()
        train(load_config(str(config), str(tmp_path / level), {'log_level': level}, shapes_root))
        said = ''.join(capsys.readouterr()).splitlines()
        lines[level] = next(i for i, line in enumerate(said) if 'Epoch(train)' in line)
    assert lines['INFO'] <= 40
    assert lines['DEBUG'] > 100
    (log,) = (tmp_path / 'INFO').glob('*/*.log')
    text = log.read_text(encoding='utf-8')
    assert 'paramwise_options' in text
    assert 'System environment' in text
