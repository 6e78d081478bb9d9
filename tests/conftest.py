"""Fixtures of all tests, and the place of the reference answers outside the repository."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import dsnet_mm.data.shapes  # isort: skip  before torch, whose threads it keeps from spinning
import mmengine.config.utils
import pytest
import torch
import yapf.yapflib.yapf_api
from mmengine.config import Config
from mmengine.utils import ManagerMixin

from dsnet_mm.cli import main

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


# mmengine formats the config of a training five times, and reads 300 files of mmdet for every
# config that inherits from it. That takes seconds, for nothing that a test looks at.
for module in (mmengine.config.config, yapf.yapflib.yapf_api):
    module.FormatCode = lambda text, **_: (text, True)
mmengine.config.utils._get_cfg_metainfo = functools.cache(mmengine.config.utils._get_cfg_metainfo)


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


def forget_runners() -> None:
    """Clear the instances that mmengine keeps by name for the whole process."""
    kinds = [ManagerMixin]
    for kind in kinds:
        kinds += kind.__subclasses__()
        getattr(kind, '_instance_dict', {}).clear()


@pytest.fixture(scope='session')
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shapes set of 8 training and 4 validation images of 96x96 pixels."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    dsnet_mm.data.shapes.ShapesDetection(train=8, val=4, size=96).write(root)
    return root


TINY_DETECTOR = f"""
_base_ = {str(ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py')!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=(8, 16, 32, 32), depths=(1, 1, 1, 1),
                  num_heads=(1, 1, 1, 1), mlp_ratio=1)),
    neck=dict(in_channels=[8, 16, 32, 32], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
)
loader = dict(num_workers=0, persistent_workers=False)
"""
"""The start of a config whose epochs take a fraction of a second."""


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


FEW_REGIONS = {
    'model.train_cfg.rpn_proposal.max_per_img': 50,
    'model.train_cfg.rcnn.sampler.num': 32,
    'model.test_cfg.rpn.max_per_img': 50,
    'model.test_cfg.rcnn.score_thr': 0.0,
    'model.test_cfg.rcnn.max_per_img': 10,
}
"""Settings with which a Mask R-CNN of mmdet trains and evaluates fast on a CPU."""


def as_options(settings: dict[str, object]) -> list[str]:
    """Return settings as the words behind ``--cfg-options``."""
    return [f'{name}={value}' for name, value in settings.items()]


def dsnet_mm_ends(*words: object) -> int | str:
    """Run ``dsnet-mm words`` in this process; return the exit status or the error sentence."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def run_command(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run ``dsnet-mm words`` as a process would, but in this one, which saves the imports.

    Returns:
        The exit status and the text that was printed.
    """
    out, err = io.StringIO(), io.StringIO()
    forget_runners()  # loggers keep the stream of the run that made them
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: int | str = 1
            try:
                main([str(word) for word in words])
            except SystemExit as end:
                code = end.code or 0
            except Exception:
                traceback.print_exc(file=err)
        if isinstance(code, str):  # printed last, as Python does
            print(code, file=err)
            code = 1
    forget_runners()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def run_process(*args: object, cwd: Path = ROOT, **env: str) -> str:
    """Run ``python args`` in a process of its own, and return the text that it printed."""
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Have torch.compile forget what it compiled, before a test and after it."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
