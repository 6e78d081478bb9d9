"""Waiting threads of PyTorch do not spin for long: the setting is made before PyTorch loads."""

from __future__ import annotations

import os
import sys

import pytest
from conftest import run_process

from dsnet_mm.threads import SPIN_COUNT, limit_spinning

READ = 'import dsnet_mm, os; print(os.environ.get("GOMP_SPINCOUNT"))'


def test_the_setting_of_the_user_stays(monkeypatch):
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


def test_a_process_that_imported_pytorch_is_left_alone(monkeypatch):
    monkeypatch.delenv('GOMP_SPINCOUNT', raising=False)
    limit_spinning()
    assert 'GOMP_SPINCOUNT' not in os.environ


@pytest.mark.slow
def test_importing_the_plug_in_makes_the_setting(monkeypatch):
    monkeypatch.delenv('GOMP_SPINCOUNT', raising=False)
    assert run_process('-c', READ).split()[0] == SPIN_COUNT
