"""Test `dsnet-mm demo`, which trains, evaluates and draws a small detector."""

from __future__ import annotations

import pytest

from helpers.commands import run_command


@pytest.mark.slow
def test_demo(tmp_path):
    done = run_command('demo', '--data-root', tmp_path / 'shapes', '--work-dir', tmp_path / 'demo',
                '--train', 16, '--val', 8, '--epochs', 1)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'box AP' in done.stdout
    assert len(list((tmp_path / 'demo' / 'pictures').iterdir())) == 8
    assert (tmp_path / 'demo' / 'detections.jpg').stat().st_size > 10_000
