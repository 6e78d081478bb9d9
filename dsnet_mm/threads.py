"""Keep the threads of PyTorch from wasting the cores that other processes need."""

from __future__ import annotations

import os
import sys

# An iteration of `make demo` beside one busy process per core, 2 cores of an AMD EPYC, 2026-11-25:
# 16 s with 30000, 1.2 s with 1000; 0.36 s on idle cores.
SPIN_COUNT = '1000'


def limit_spinning() -> None:
    """Let waiting OpenMP threads spin briefly, if PyTorch is not imported yet.

    GNU OpenMP spins for billions of turns by default. Beside other busy processes a training on a
    CPU then takes many times as long. The library reads the setting when PyTorch loads it. A value
    that the user set stays.
    """
    if 'torch' not in sys.modules and 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', SPIN_COUNT)
