"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dsnet_mm.data.shapes  # isort: skip  before torch, whose threads it keeps from spinning
import pytest
import torch

import helpers.fast_configs  # noqa: F401
from helpers.commands import forget_runners
from helpers.paths import SHARED

# `make test` hands its own settings on, which a make started by a test must not inherit.
for name in ('MAKEFLAGS', 'MAKELEVEL', 'MAKEOVERRIDES', 'MFLAGS', 'STACK', 'VENV'):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that compare with ``SHARED`` where it is absent."""
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker('shared'):
            item.add_marker(pytest.mark.skip(reason=f'{SHARED} is absent'))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, _empty_cache: Path) -> None:
    """Let no test use the network or the weights that the user of this machine downloaded."""
    monkeypatch.setenv('DSNET_MM_WEIGHTS_URL', 'http://127.0.0.1:9')  # refuses connections
    monkeypatch.setenv('TORCH_HOME', str(_empty_cache))
    monkeypatch.setenv('no_proxy', '127.0.0.1')


@pytest.fixture(autouse=True)
def _no_trace_of_runners() -> Iterator[None]:
    """Let no test use the scope, the loggers or the folders of another test's runner."""
    yield
    forget_runners()


@pytest.fixture(scope='session')
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shapes set of 8 training and 4 validation images of 96x96 pixels."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    dsnet_mm.data.shapes.ShapesDetection(train=8, val=4, size=96).write(root)
    return root


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Have torch.compile forget what it compiled, before a test and after it."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
