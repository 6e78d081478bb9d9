"""Install PyTorch, OpenMMLab and this project into a virtual environment; `make env` runs this.

uv installs the packages. This script checks the machine, passes pip's settings to uv and explains
failures. The script imports only the standard library, because it runs before the installation.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
UV = 'uv==0.13.9'
MMCV = {'openmmlab': 'mmcv', 'onedl': 'onedl-mmcv'}
# The first and last 3.x of each stack. mmengine 0.10 and mmcv 2.1 call pkgutil.find_loader, which
# Python 3.14 removed.
PYTHONS = {'openmmlab': (10, 13), 'onedl': (10, 14)}
HEADERS = '#include <torch/types.h>\n'  # mmcv's compilation spends most of its time on these
CFLAGS = '-O2 -g0 -DNDEBUG'  # as in pyproject.toml, or GCC ignores the precompiled headers
NEEDED_GB, GB_PER_COMPILER, SECONDS_BETWEEN_SIGNS = 8, 2, 30
UV_SETTINGS = {  # pip's setting -> the environment variable of uv
    'index-url': 'UV_DEFAULT_INDEX',
    'extra-index-url': 'UV_INDEX',
    'find-links': 'UV_FIND_LINKS',
    'constraint': 'UV_CONSTRAINT',
    'cert': 'SSL_CERT_FILE',
    'trusted-host': 'UV_INSECURE_HOST',
    'timeout': 'UV_HTTP_TIMEOUT',
    'default-timeout': 'UV_HTTP_TIMEOUT',
    'proxy': 'ALL_PROXY',
}
HIDDEN = ('PYTHONPATH', 'PYTHONHOME', 'UV_CONFIG_FILE', 'UV_NO_CONFIG')  # would mislead uv
HINTS = {  # pattern in a log -> remedy
    r'ensurepip is not|No module named .?(venv|ensurepip)': 'run `sudo apt-get install '
    'python3-venv`',
    r'No space left': 'free disk space, or set UV_CACHE_DIR and TMPDIR to a larger disk',
    r'fatal error: Killed|Killed signal': 'the compiler ran out of memory; set MAX_JOBS=1',
    r'detected CUDA version|CUDA_HOME environment': 'set CUDA_HOME to the CUDA toolkit of the '
    'version that PyTorch uses',
    r'unsatisfiable|no version of|No matching dist': 'check the index and the constraints of pip '
    '(`pip config list`)',
    r'dns error|sending request|[Cc]onnection|[Tt]imed out|certificate|name resolution': 'check '
    'the network, the proxy (HTTPS_PROXY) and the index of pip (`pip config list`)',
}


def choose_stack(wanted: str, minor: int) -> str:
    """Return the stack to install on Python 3.``minor``, or exit if none supports this Python."""
    for stack, (first, last) in PYTHONS.items():
        if wanted in ('auto', stack) and first <= minor <= last:
            return stack
    ranges = ', '.join(f'{stack} 3.{low} to 3.{high}' for stack, (low, high) in PYTHONS.items())
    sys.exit(
        f'error: Python 3.{minor} is not supported by STACK={wanted} ({ranges}); choose another '
        'with `make ... PYTHON=python3.12`'
    )


def claim(venv: Path, stack: str) -> None:
    """Mark a new folder with ``stack``, or exit if the folder contains anything else."""
    mark = venv / 'dsnet-mm.stack'
    if not mark.exists() and venv.exists() and (not venv.is_dir() or os.listdir(venv)):
        sys.exit(f'error: {venv} was not made by `make env`; remove it, or choose another VENV=...')
    if mark.exists() and mark.read_text().split()[:1] not in ([], [stack]):
        sys.exit(f'error: {venv} contains another stack than {stack}; choose another VENV=...')
    venv.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        mark.write_text(stack)


def check_machine(venv: Path, env: dict[str, str]) -> None:
    """Exit if the machine lacks disk space or compilers."""
    free = shutil.disk_usage(venv).free / 1e9
    if free < NEEDED_GB and not list(venv.glob('lib/*/site-packages/torch')):
        sys.exit(f'error: {venv} has {free:.1f} GB free but needs {NEEDED_GB}; choose another VENV')
    compiler = shlex.split(env.get('CXX') or 'c++')
    command = [*compiler, f'-I{sysconfig.get_path("include")}', '-fsyntax-only', '-x', 'c++', '-']
    source = b'#include <vector>\n#include <Python.h>\n'
    try:
        subprocess.run(command, input=source, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit(
            f'error: mmcv must be compiled, but `{shlex.join(compiler)}` is missing or does not '
            'find <Python.h>; run `sudo apt-get install g++ python3-dev`'
        )
    home = env.get('CUDA_HOME') or env.get('CUDA_PATH') or '/usr/local/cuda'
    if find_gpus(env) and not shutil.which('nvcc', path=f'{env.get("PATH", "")}:{home}/bin'):
        sys.exit(
            'error: mmcv must be compiled for the GPU of this machine, but nvcc is missing; '
            'install the CUDA toolkit and set CUDA_HOME, or set CUDA_VISIBLE_DEVICES= to use the '
            'CPU'
        )


def find_gpus(env: dict[str, str]) -> str:
    """Return the compute capabilities to compile for: '8.0;9.0', 'all', or '' for the CPU."""
    query = ['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader']
    found = 'all' if env.get('FORCE_CUDA') == '1' else ''
    if env.get('CUDA_VISIBLE_DEVICES', 'all') not in ('', '-1') and shutil.which(query[0]):
        done = subprocess.run(query, env=env, capture_output=True, text=True, check=False)
        found = done.returncode == 0 and ';'.join(sorted(set(done.stdout.split()))) or found
    return found and (env.get('TORCH_CUDA_ARCH_LIST') or found)


def uv_environment(pip_config: str, env: dict[str, str]) -> dict[str, str]:
    """Return ``env`` with the output of ``pip config list`` translated to uv's variables."""
    result = {'UV_SYSTEM_CERTS': '1', 'UV_INDEX_STRATEGY': 'unsafe-best-match'}
    if 'REQUESTS_CA_BUNDLE' in env:  # pip reads this variable, uv does not
        result['SSL_CERT_FILE'] = env['REQUESTS_CA_BUNDLE']
    # environment variables last, because they override files
    for line in sorted(pip_config.splitlines(), key=lambda line: line.startswith(':env:')):
        name, _, value = line.partition('=')
        section, _, key = name.rpartition('.')
        if section in ('global', 'install', ':env:') and key in UV_SETTINGS:
            words = ast.literal_eval(value).split()
            if key == 'find-links':  # pip ignores missing folders, uv does not
                words = [','.join(word for word in words if '://' in word or Path(word).exists())]
            result[UV_SETTINGS[key]] = ' '.join(words)
    return {**result, **{name: value for name, value in env.items() if name not in HIDDEN}}


def job_count(env: dict[str, str], meminfo: str) -> str:
    """Return the number of parallel compilers: MAX_JOBS, or what cores and memory allow."""
    gigabytes = int(re.findall(r'MemAvailable:\s+(\d+) kB', meminfo)[0]) / 1e6
    fitting = min(len(os.sched_getaffinity(0)), int(gigabytes / GB_PER_COMPILER))
    return env.get('MAX_JOBS') or str(max(1, fitting))


class Log:
    """Run commands with their output in a file, and print their progress."""

    def __init__(self, file: Path, env: dict[str, str]) -> None:
        self.file, self.env = file, env

    def run(self, *command: str | Path, **env: str) -> bool:
        """Run ``command`` with ``env`` added, and return whether it succeeded."""
        start = time.monotonic()
        with open(self.file, 'w', encoding='utf-8') as log:
            options: dict[str, Any] = dict(
                cwd=ROOT, env={**self.env, **env}, stdin=subprocess.DEVNULL
            )
            options.update(stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            process = subprocess.Popen([str(word) for word in command], **options)
        try:
            while process.poll() is None:
                try:
                    process.wait(SECONDS_BETWEEN_SIGNS)
                except subprocess.TimeoutExpired:
                    files = re.findall(r'\[(\d+/\d+)\] \S', self.text())
                    done = f', {files[-1]} files of mmcv compiled' if files else ''
                    print(f'    {(time.monotonic() - start) / 60:.1f} minutes{done}', flush=True)
        finally:
            if process.poll() is None:  # after an interrupt, compilers must not continue
                os.killpg(process.pid, signal.SIGTERM)
        return process.returncode == 0

    def text(self) -> str:
        """Return the output of the last command."""
        return self.file.read_text(encoding='utf-8', errors='replace')

    def must(self, step: str, *command: str | Path, **env: str) -> None:
        """Run ``command``, or exit with the end of its output and advice."""
        print(f'  {step}', flush=True)
        if not self.run(*command, **env):
            lines = [line for line in self.text().splitlines() if not line.startswith('DEBUG')]
            print(*lines[-15:], sep='\n', file=sys.stderr)
            advice = [hint for key, hint in HINTS.items() if re.search(key, '\n'.join(lines[-99:]))]
            what = advice[0] if advice else 'fix the problem in the lines above'
            sys.exit(f'error: {step} failed ({self.file}): {what}, then run the same command again')


def precompile(log: Log, header: Path, include: list[Path]) -> str:
    """Precompile ``header``, and return the GCC flags that use it, or '' on failure."""
    header.write_text(HEADERS)
    options = [f'-I{folder}' for folder in (*include, sysconfig.get_path('include'))]
    options += [*CFLAGS.split(), '-std=c++17', '-fPIC', '-DTORCH_API_INCLUDE_EXTENSION_H']
    compiler = shlex.split(log.env.get('CXX') or 'c++')
    # clang accepts precompiled headers only with identical options
    if not log.run(*compiler, '--version') or 'clang' in log.text():
        return ''
    done = log.run(*compiler, *options, '-x', 'c++-header', header, '-o', f'{header}.gch')
    return f'-include {shlex.quote(str(header))}' if done else ''


def fingerprint(stack: str, *facts: str) -> str:
    """Return the stack and a hash of everything that an environment depends on."""
    names = (f'requirements/{stack}.lock', 'pyproject.toml', 'setup.py', 'tools/install.py')
    facts = (str(ROOT), *facts, *((ROOT / name).read_text() for name in names))
    return f'{stack} {hashlib.sha256(repr(facts).encode()).hexdigest()}'


def install(wanted: str, venv: Path) -> None:
    """Install the stack into ``venv`` unless the environment is complete."""
    stack, env = choose_stack(wanted, sys.version_info[1]), dict(os.environ)
    version, gpus, mmcv = f'3.{sys.version_info[1]}', find_gpus(env), MMCV[stack]
    claim(venv, stack)
    guard = open(venv / 'dsnet-mm.guard', 'w')  # one installation at a time
    fcntl.flock(guard, fcntl.LOCK_EX)
    python, mark, lock = venv / 'bin/python', venv / 'dsnet-mm.stack', f'requirements/{stack}.lock'
    state = fingerprint(stack, version, gpus)
    log = Log(venv / 'dsnet-mm.log', uv_environment('', env))
    uv: list[str | Path] = [python, '-m', 'uv', '-v', 'pip', 'install', '-p', python, '--no-deps']
    if mark.read_text() == state and log.run(*uv, '--offline', '--dry-run', '-r', lock):
        if 'Would make no changes' in log.text():
            return
    print(f'installing the {stack} stack for Python {version} into {venv}', flush=True)
    if wanted == 'auto' and stack == 'onedl':
        print('  (the OneDL forks, because the official packages do not support this Python)')
    check_machine(venv, env)
    mark.write_text(stack)
    ask = f'import pip, sys; sys.exit("%d.%d" % sys.version_info[:2] != "{version}")'
    if not python.exists() or not log.run(python, '-c', ask):
        for folder in ('bin', 'lib'):
            shutil.rmtree(venv / folder, ignore_errors=True)
        log.must('a virtual environment', sys.executable, '-m', 'venv', venv)
    log.must('uv', python, '-m', 'pip', 'install', UV)
    log.must('the settings of pip', python, '-m', 'pip', 'config', 'list')
    if re.search(r"(global|install|:env:)\.no-index='(1|true|yes|on)'", log.text(), re.I):
        uv.append('--no-index')
    log.env = uv_environment(log.text(), env)
    if gpus:  # separate cache entries in uv for each device
        uv += ['--config-settings-package', f'{mmcv}:device={gpus}']
        log.env.update(FORCE_CUDA='1', **dict(TORCH_CUDA_ARCH_LIST=gpus) if gpus != 'all' else {})
    rest, header = venv / 'without-mmcv.txt', venv / 'torch_headers.h'
    lines = (ROOT / lock).read_text().splitlines(keepends=True)
    rest.write_text(''.join(line for line in lines if not line.startswith(f'{mmcv}==')))
    log.must('PyTorch and OpenMMLab without mmcv (several GB)', *uv, '-r', rest)
    # Reuse a wheel from uv's cache, whose key contains the version of torch. Without such a wheel,
    # the compiler `false` makes the build fail at once.
    log.run(python, '-m', 'uv', 'pip', 'uninstall', '-p', python, mmcv)
    if log.run(*uv, '-r', lock, CXX='false') and not log.run(python, '-c', 'import mmcv.ops'):
        log.run(python, '-m', 'uv', 'cache', 'clean', mmcv)
        log.run(python, '-m', 'uv', 'pip', 'uninstall', '-p', python, mmcv)
    if not list(venv.glob('lib/*/site-packages/mmcv/_ext*')):
        (torch,) = venv.glob('lib/*/site-packages/torch/include')
        flags = precompile(log, header, [torch, torch / 'torch/csrc/api/include'])
        path = [str(ROOT / 'tools' / 'install_py313')] if sys.version_info >= (3, 13) else []
        log.must(
            f'mmcv, compiled for {gpus or "the CPU"}: 3 to 8 minutes on two cores',
            *(*uv, '-r', lock),
            CPPFLAGS=f'{env.get("CPPFLAGS", "")} {flags}',
            MAX_JOBS=job_count(env, Path('/proc/meminfo').read_text()),
            PYTHONPATH=':'.join(path),
            PATH=f'{python.parent}:{env.get("PATH", "")}',
        )
        Path(f'{header}.gch').unlink(missing_ok=True)  # 0.4 GB
        log.must('Import mmcv.ops', python, '-c', 'import mmcv.ops')
    # Compile to bytecode here, or the first import prints SyntaxWarnings of old code.
    log.must('this project', *uv, '--compile-bytecode', '-e', ROOT)
    log.must('the check of the environment', python, '-m', 'dsnet_mm')
    mark.write_text(state)


def main() -> None:
    """Read the arguments and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stack', choices=('auto', *MMCV), default='auto')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder to install into')
    args = parser.parse_args()
    if sys.platform != 'linux':
        sys.exit('error: this installer is for Linux; elsewhere, use pip and requirements/*.lock')
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # which nohup sets
            signal.signal(ending, signal.default_int_handler)
    try:
        install(args.stack, Path(os.path.abspath(args.venv)))
    except KeyboardInterrupt:
        sys.exit('error: interrupted; run the same command again to continue')
    except OSError as error:
        sys.exit(f'error: {error.filename or "a file"}: {error.strerror}; correct it, or set VENV')


if __name__ == '__main__':
    main()
