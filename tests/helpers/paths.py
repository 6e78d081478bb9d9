"""The folders that the tests read."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / 'tests' / 'recorded'
SHARED = Path(os.environ.get('DSNET_SHARED', ROOT.parent / 'shared'))
"""Reference files and photographs outside of the repository."""
