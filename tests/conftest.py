"""Fixtures of all tests, and the place of the reference answers outside the repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from dsnet_mm.data.shapes import ShapesDetection

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get('DSNET_SHARED', ROOT.parent / 'shared'))


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


@pytest.fixture(autouse=True)
def _no_trace_of_runners() -> Iterator[None]:
    """Have no test find types by the scope that another test's runner left, or log in its folder.

    mmdet's configs name every visualizer alike, and mmengine gives an old one of that name.
    """
    yield
    visualizers = [Visualizer]
    for kind in visualizers:
        visualizers += kind.__subclasses__()
    for kind in (DefaultScope, *visualizers):
        kind._instance_dict.clear()


@pytest.fixture(scope='session')
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shapes set of 8 training and 4 validation images of 96x96 pixels."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    ShapesDetection(train=8, val=4, size=96).write(root)
    return root


def check_safety(cfg: Config) -> None:
    """See that trainings of ``cfg`` stop at NaN, and leave a checkpoint while they write one."""
    assert {'SafeCheckpointHook', 'StopAtNaNHook'} <= {hook.type for hook in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.max_keep_ckpts > 1  # mmengine deletes before it writes


def documented(document: str, part: str) -> list[str]:
    """Return the words of the one command in ``document`` that has ``part`` in it."""
    text = (ROOT / document).read_text(encoding='utf-8')
    lines = [line for block in re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
             for line in block.splitlines() if part in line]  # fmt: skip
    assert len(lines) == 1, lines
    return shlex.split(lines[0])


def tool(name: str, *args: object) -> subprocess.CompletedProcess:
    """Run a tool from the root of the project in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools' / name), *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Have torch.compile forget what it compiled, before a test and after it."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
