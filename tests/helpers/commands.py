"""Run ``dsnet-mm`` in this process or Python in another."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from mmengine.utils import ManagerMixin

from dsnet_mm.cli import main
from helpers.paths import ROOT


def forget_runners() -> None:
    """Clear the instances that mmengine keeps by name for the whole process."""
    kinds = [ManagerMixin]
    for kind in kinds:
        kinds += kind.__subclasses__()
        getattr(kind, '_instance_dict', {}).clear()


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
