"""The functions of docs/try_detectors.py, and the table that this command wrote."""

from __future__ import annotations

import importlib.util
import sys

from helpers.documents import read
from helpers.paths import ROOT

PAGE = 'docs/other_detectors.md'
SMALL_ARCH = dict(
    embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=1
)

_spec = importlib.util.spec_from_file_location('try_detectors', ROOT / 'docs' / 'try_detectors.py')
trials = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = trials  # dataclasses look there
_spec.loader.exec_module(trials)


def rows() -> dict[str, list[str]]:
    """Return the rows of the table by config: DS-Net-T, DS-FPN, remark."""
    block = read(PAGE).split('<!-- detector table -->')[1].split('<!-- end of')[0]
    lines = [line for line in block.splitlines() if line.startswith('| ')][2:]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    return {path: rest for path, *rest in cells}
