"""Test that the limit on spinning is set before PyTorch loads."""

from __future__ import annotations

import os
import sys

import pytest

from dsnet_mm.threads import SPIN_COUNT, limit_spinning
from helpers.commands import run_process

READ = 'import dsnet_mm, os; print(os.environ.get("GOMP_SPINCOUNT"))'


def test_user_settings_are_kept(monkeypatch):
    for name in [name for name in sys.modules if name == 'torch']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    for given in ({}, {'GOMP_SPINCOUNT': '7'}, {'OMP_WAIT_POLICY': 'PASSIVE'}):
        for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY'):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        limit_spinning()
        expected = None if 'OMP_WAIT_POLICY' in given else given.get('GOMP_SPINCOUNT', SPIN_COUNT)
        assert os.environ.get('GOMP_SPINCOUNT') == expected


def test_nothing_changes_after_importing_pytorch(monkeypatch):
    monkeypatch.delenv('GOMP_SPINCOUNT', raising=False)
    limit_spinning()
    assert 'GOMP_SPINCOUNT' not in os.environ


@pytest.mark.slow
def test_importing_the_plug_in_limits_spinning(monkeypatch):
    monkeypatch.delenv('GOMP_SPINCOUNT', raising=False)
    assert run_process('-c', READ).split()[-1] == SPIN_COUNT
