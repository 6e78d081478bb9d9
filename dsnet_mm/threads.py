"""Limit the busy waiting of PyTorch's threads, which slows down other processes."""

from __future__ import annotations

import os
import sys

# Seconds per training iteration of `make demo`, means of interleaved runs on two cores of an AMD
# EPYC (AVX2), 2026-11-25. On idle cores: 0.38 by default, 0.40 with 3000, 0.45 with 1000, 0.51 with
# 0. Next to one busy process per core: 1.20 with 3000, 1.01 with 1000, 0.95 with 0, 16 with 30000.
SPIN_COUNT = '3000'


def limit_spinning() -> None:
    """Let waiting OpenMP threads spin briefly, if PyTorch is not imported yet.

    By default, GNU OpenMP spins 300,000 turns. Next to other busy processes, training on a CPU
    then takes many times as long. OpenMP reads the setting when PyTorch loads OpenMP. Values of
    the user are kept.
    """
    if 'torch' not in sys.modules and 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', SPIN_COUNT)
