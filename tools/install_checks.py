"""What ``tools/install.py`` asks of a machine before it starts, and says of a failure after."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# A compiler of mmcv's sources was seen to hold 1 GB; twice that leaves room for CUDA's.
GB_PER_JOB = 2
# What a log says, and what it means to somebody who only typed one command.
HINTS = (
    (r'No space left', 'free some disk space, or set TMPDIR to a folder on a larger disk'),
    (r'Python\.h: No such file', 'install the headers of Python (python3-dev)'),
    (r'fatal error: Killed|Killed signal', 'the compiler ran out of memory: set MAX_JOBS=1'),
    (
        r'CUDA_HOME environment variable is not set|detected CUDA version',
        'install the CUDA toolkit that this PyTorch was built with, or set CUDA_VISIBLE_DEVICES= '
        '(empty) to work on the CPU',
    ),
    (
        r'name resolution|NewConnectionError|ConnectTimeout|Connection aborted|ReadTimeout'
        r'|Read timed out|Network is unreachable|ProxyError|SSLError|IncompleteRead',
        'the package index cannot be reached, so look after the network or the proxy (HTTPS_PROXY)',
    ),
    (
        r'No matching distribution|Could not find a version',
        'the package index has no such version for this Python and machine: look after the index '
        'that pip is set to (`pip config list`), or name another Python with PYTHON=...',
    ),
)


class InstallError(Exception):
    """What went wrong and what to do, in one sentence."""


def hint_for(log: str) -> str:
    """Return what to do about the failure that ``log`` tells of, '' if it is an unknown one."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, log)), '')


def check_python(version: tuple[int, ...], system: str, stack: str) -> None:
    """Refuse a Python or a system that the stack does not support."""
    if stack == 'openmmlab' and version > (3, 12):
        raise InstallError(
            f'this is Python {version[0]}.{version[1]}, with which mmcv 2.1 does not build: name '
            'an older one with `make env PYTHON=python3.12`'
        )
    if version < (3, 10):
        raise InstallError(
            f'this is Python {version[0]}.{version[1]}, and 3.10 or later is needed: name one with '
            '`make env PYTHON=python3.11`'
        )
    if system != 'linux':
        raise InstallError(
            f'this installer knows Linux, not {system}: install requirements/openmmlab.txt by hand'
        )


def check_venv_modules() -> None:
    """Refuse a Python that cannot make virtual environments, as Debian's own cannot."""
    for name in ('venv', 'ensurepip'):
        if importlib.util.find_spec(name) is None:
            raise InstallError(
                f'{sys.executable} lacks its module {name}: type `sudo apt-get install '
                'python3-venv`, or name another Python with `make env PYTHON=...`'
            )


def check_disk(folder: Path, needed_gb: float) -> None:
    """Refuse a file system with less than ``needed_gb`` GB free."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed_gb:
        raise InstallError(
            f'{free:.1f} GB are free in {folder} and about {needed_gb} GB are needed: free some, '
            'or name a folder elsewhere with `make env VENV=...`'
        )


def check_compiler(env: dict[str, str], include: Path) -> None:
    """Refuse a machine on which mmcv cannot be compiled: no C++ compiler, no ``Python.h``."""
    compiler = shlex.split(env.get('CXX') or 'c++')
    source = '#include <vector>\nint main() { return std::vector<int>().size(); }\n'
    with tempfile.TemporaryDirectory() as folder:
        command = [*compiler, '-std=c++17', '-x', 'c++', '-', '-o', f'{folder}/a.out']
        try:
            subprocess.run(command, input=source, text=True, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            raise InstallError(
                f'mmcv has to be compiled, and the C++ compiler `{shlex.join(compiler)}` does not '
                'work: type `sudo apt-get install g++`, or name another with CXX=...'
            ) from None
    if not (include / 'Python.h').is_file():
        raise InstallError(
            f'mmcv has to be compiled, and Python.h is not in {include}: type `sudo apt-get '
            'install python3-dev`, or name another Python with `make env PYTHON=...`'
        )


def check_nvcc(env: dict[str, str]) -> None:
    """Refuse to compile for a GPU without CUDA's compiler; PyTorch looks in the same places."""
    home = env.get('CUDA_HOME') or env.get('CUDA_PATH') or '/usr/local/cuda'
    if not shutil.which('nvcc', path=env.get('PATH')) and not Path(home, 'bin', 'nvcc').exists():
        raise InstallError(
            'this machine has a GPU, but no nvcc to compile mmcv for it: install the CUDA toolkit '
            'that this PyTorch was built with and set CUDA_HOME, or work on the CPU with '
            '`CUDA_VISIBLE_DEVICES= make ...`'
        )


def ops_device(env: dict[str, str]) -> str:
    """Return what mmcv's operations are to be built for: ``cpu``, or ``cuda-`` and the GPUs."""
    query = ['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader']
    chips = ''
    if env.get('CUDA_VISIBLE_DEVICES', 'all') not in ('', '-1'):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            found = subprocess.run(query, env=env, capture_output=True, text=True, check=True)
            chips = '-'.join(sorted(set(found.stdout.split())))
    if chips or env.get('FORCE_CUDA') == '1':
        return f'cuda-{env.get("TORCH_CUDA_ARCH_LIST") or chips}'
    return 'cpu'


def job_count(env: dict[str, str], cores: int, meminfo: str) -> int:
    """Return how many files to compile at once: the user's MAX_JOBS, or by cores and memory.

    Args:
        meminfo: content of ``/proc/meminfo``.
    """
    if env.get('MAX_JOBS', '').isdigit():
        return int(env['MAX_JOBS'])
    available = re.search(r'MemAvailable: +(\d+) kB', meminfo)
    by_memory = int(available[1]) // int(GB_PER_JOB * 1e6) if available else cores
    return max(1, min(cores, by_memory))


def cache_folder(env: dict[str, str], venv: Path, key: str) -> Path:
    """Return the folder that keeps the mmcv wheel of ``key``; in ``venv`` if home is read-only."""
    home = env.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder_name = re.sub(r'[^\w.+-]', '_', key)
    for base in (Path(home, 'dsnet-mm', 'wheels'), venv / 'wheels'):
        folder = base / folder_name
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise InstallError(f'{venv} cannot be written: name another folder with `make env VENV=...`')
