"""Measure the peak memory of a computation."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

CPU = 0  # PyTorch's number of this device type in a profiler trace


def peak_memory(function: Callable[[], Any], device: str | torch.device = 'cpu') -> int:
    """Run ``function`` once and return its peak memory in bytes.

    The peak covers PyTorch's allocator on ``device``, beyond the allocations before the call. The
    peak excludes memory that libraries allocate, such as oneDNN for reordered weights. On a CPU,
    the figure does not depend on the speed of the machine.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - held

    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # silence the profiler's start and end
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*Profiler clears events.*')
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / 'trace.json'
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())['traceEvents']
    allocations = [event for event in events if event.get('name') == '[memory]']
    held = peak = 0
    for event in sorted(allocations, key=lambda event: event['ts']):
        if event['args']['Device Type'] == CPU:
            held += event['args']['Bytes']
            peak = max(peak, held)
    return peak
