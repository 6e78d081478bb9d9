"""Install PyTorch, OpenMMLab and this project into a virtual environment; `make env` runs this.

uv does the work. This file checks the machine, passes pip's settings on and explains failures. It
uses the standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
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

ROOT = Path(__file__).resolve().parent.parent
UV = 'uv==0.13.9'
MMCV = {'openmmlab': 'mmcv', 'onedl': 'onedl-mmcv'}
PYTHONS = {'openmmlab': ('3.10', '3.13'), 'onedl': ('3.10', '3.13')}  # first and last
HEADERS = '#include <torch/types.h>\n'  # most of the time of compiling mmcv goes into these
CFLAGS = '-O2 -g0 -DNDEBUG'  # as pyproject.toml has them
NEEDED_GB, GB_PER_COMPILER, SECONDS_BETWEEN_SIGNS = 8, 2, 30
UV_SETTINGS = {  # pip's setting -> the environment variable of uv
    **{'index-url': 'UV_DEFAULT_INDEX', 'extra-index-url': 'UV_INDEX', 'no-index': 'UV_NO_INDEX'},
    **{'find-links': 'UV_FIND_LINKS', 'constraint': 'UV_CONSTRAINT', 'cert': 'SSL_CERT_FILE'},
    **{
        'trusted-host': 'UV_INSECURE_HOST',
        'default-timeout': 'UV_HTTP_TIMEOUT',
        'proxy': 'ALL_PROXY',
    },
}
HINTS = {  # what a log says -> what to do
    r'No space left': 'free disk space, or set UV_CACHE_DIR and TMPDIR to a larger disk',
    r'fatal error: Killed|Killed signal': 'the compiler ran out of memory; set MAX_JOBS=1',
    r'detected CUDA version|CUDA_HOME environment': 'set CUDA_HOME to the CUDA of this PyTorch',
    r'unsatisfiable|no version of|No matching dist': 'check the index that pip uses (`pip config '
    'list`) and its constraints',
    r'dns error|rror sending request|[Cc]onnection|[Tt]imed out|certificate|resolution': 'check '
    'the network, the proxy (HTTPS_PROXY) and the index that pip uses (`pip config list`)',
}


class InstallError(Exception):
    """What failed and what to do, in one sentence."""


def choose_stack(wanted: str, python: str) -> str:
    """Return the stack to install, or refuse a Python that has none."""
    number = int(python.split('.')[1])
    for stack, bounds in PYTHONS.items():
        low, high = (int(bound.split('.')[1]) for bound in bounds)
        if wanted in ('auto', stack) and low <= number <= high:
            return stack
    ranges = ', '.join(f'{stack} {low} to {high}' for stack, (low, high) in PYTHONS.items())
    raise InstallError(
        f'Python {python} is not supported by STACK={wanted} ({ranges}); choose another with '
        '`make ... PYTHON=python3.12`'
    )


def check_folder(venv: Path, stack: str) -> None:
    """Refuse a folder that this file did not make, or that holds the other stack."""
    mark = venv / 'dsnet-mm.stack'
    if mark.exists() and mark.read_text().split()[:1] != [stack]:
        raise InstallError(
            f'{venv} holds another stack than {stack}; choose a folder with VENV=...'
        )
    if not mark.exists() and venv.exists() and (not venv.is_dir() or os.listdir(venv)):
        raise InstallError(f'{venv} exists and is not of `make env`; choose a folder with VENV=...')


def check_machine(venv: Path, env: dict[str, str]) -> None:
    """Refuse a machine without the disk space or the compilers that the installation needs."""
    free = shutil.disk_usage(venv).free / 1e9
    if free < NEEDED_GB:
        raise InstallError(
            f'{venv} has {free:.1f} GB free but needs {NEEDED_GB}; choose a folder with VENV=...'
        )
    compiler = shlex.split(env.get('CXX') or 'c++')
    for header, package in (('vector', 'g++'), ('Python.h', 'python3-dev')):
        options = ['-std=c++17', f'-I{sysconfig.get_path("include")}', '-fsyntax-only', '-x', 'c++']
        source = f'#include <{header}>\n'.encode()
        try:
            subprocess.run(
                [*compiler, *options, '-'], input=source, capture_output=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            raise InstallError(
                f'mmcv is compiled here, but `{shlex.join(compiler)}` does not find <{header}>; '
                f'type `sudo apt-get install {package}`'
            ) from None
    home = env.get('CUDA_HOME') or env.get('CUDA_PATH') or '/usr/local/cuda'
    if find_gpus(env) and not shutil.which('nvcc', path=f'{env.get("PATH", "")}:{home}/bin'):
        raise InstallError(
            'mmcv is compiled for the GPU of this machine, but nvcc is missing; install the CUDA '
            'toolkit and set CUDA_HOME, or set CUDA_VISIBLE_DEVICES= for the CPU only'
        )


def find_gpus(env: dict[str, str]) -> str:
    """Return the compute capabilities to compile mmcv for, such as '8.0;9.0', '' for the CPU."""
    query, found = ['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader'], ''
    if env.get('CUDA_VISIBLE_DEVICES', 'all') not in ('', '-1') and shutil.which(query[0]):
        done = subprocess.run(query, env=env, capture_output=True, text=True, check=False)
        found = ';'.join(sorted(set(done.stdout.split()))) if done.returncode == 0 else ''
    return env.get('TORCH_CUDA_ARCH_LIST', found) if found or env.get('FORCE_CUDA') == '1' else ''


def uv_environment(pip_config: str, env: dict[str, str]) -> dict[str, str]:
    """Return ``env`` with the settings that ``pip config list`` printed, in uv's names."""
    result = {'UV_SYSTEM_CERTS': '1', 'UV_INDEX_STRATEGY': 'unsafe-best-match'}
    # the environment last, so that it wins
    for line in sorted(pip_config.splitlines(), key=lambda line: line.startswith(':env:')):
        name, _, value = line.partition('=')
        section, _, key = name.rpartition('.')
        if section in ('global', 'install', ':env:') and key in UV_SETTINGS:
            separator = ',' if key == 'find-links' else ' '
            result[UV_SETTINGS[key]] = separator.join(ast.literal_eval(value).split())
    return {**result, **{k: v for k, v in env.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}}


def job_count(env: dict[str, str]) -> str:
    """Return how many compilers run at once: MAX_JOBS, or as many as cores and memory allow."""
    memory = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    fitting = min(len(os.sched_getaffinity(0)), int(memory / GB_PER_COMPILER))
    return env.get('MAX_JOBS') or str(max(1, fitting))


class Log:
    """Runs commands with their output in a file, and prints signs of life."""

    def __init__(self, file: Path, env: dict[str, str]) -> None:
        self.file, self.env = file, env

    def run(self, *command: str | Path, **env: str) -> bool:
        """Run ``command`` with ``env`` added, and return whether it succeeded."""
        start = time.monotonic()
        with open(self.file, 'w', encoding='utf-8') as log:
            options = dict(cwd=ROOT, env={**self.env, **env}, stdin=subprocess.DEVNULL)
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
            if process.poll() is None:  # an interrupt, after which compilers must not go on
                os.killpg(process.pid, signal.SIGTERM)
        return process.returncode == 0

    def text(self) -> str:
        """Return what the last command printed."""
        return self.file.read_text(encoding='utf-8', errors='replace')

    def must(self, step: str, *command: str | Path, **env: str) -> None:
        """Run ``command``, or fail with the end of its output and advice."""
        print(f'  {step}', flush=True)
        if not self.run(*command, **env):
            print(*self.text().rstrip().splitlines()[-15:], sep='\n', file=sys.stderr)
            advice = next((hint for key, hint in HINTS.items() if re.search(key, self.text())), '')
            advice = advice or 'correct what the lines above report'
            raise InstallError(f'{step} failed ({self.file}): {advice}, then type the same again')


def precompile(log: Log, python: Path) -> str:
    """Compile PyTorch's headers once, and return the flag with which GCC reuses them, or ''."""
    header = log.file.parent / 'torch_headers.h'
    header.write_text(HEADERS)
    ask = 'from torch.utils import cpp_extension; print(*cpp_extension.include_paths(), sep="\\n")'
    log.must('the headers of PyTorch', python, '-W', 'ignore', '-c', ask)
    options = [f'-I{line}' for line in log.text().splitlines() if line.startswith('/')]
    options += [*CFLAGS.split(), '-std=c++17', '-fPIC', '-DTORCH_API_INCLUDE_EXTENSION_H']
    compiler = shlex.split(log.env.get('CXX') or 'c++')
    done = log.run(*compiler, *options, '-x', 'c++-header', header, '-o', f'{header}.gch')
    return f'-include {header}' if done else ''


def fingerprint(stack: str, *facts: str) -> str:
    """Return the stack and a hash of all that a complete environment depends on."""
    names = (f'requirements/{stack}.lock', 'pyproject.toml', 'setup.py', 'tools/install.py')
    facts = (str(ROOT), *facts, *((ROOT / name).read_text() for name in names))
    return f'{stack} {hashlib.sha256(repr(facts).encode()).hexdigest()}'


def install(wanted: str, venv: Path) -> None:
    """Install into ``venv`` what is missing there; a complete one takes a second."""
    version, env = f'{sys.version_info[0]}.{sys.version_info[1]}', dict(os.environ)
    stack = choose_stack(wanted, version)
    check_folder(venv, stack)
    venv.mkdir(parents=True, exist_ok=True)
    python, mark, lock = venv / 'bin/python', venv / 'dsnet-mm.stack', f'requirements/{stack}.lock'
    gpus = find_gpus(env)
    state = fingerprint(stack, version, gpus)
    log = Log(venv / 'dsnet-mm.log', uv_environment('', env))
    uv = [python, '-m', 'uv', '-v', 'pip', 'install', '-p', python, '--no-deps']
    if mark.exists() and mark.read_text() == state and log.run(*uv, '--dry-run', '-r', lock):
        if 'Would make no changes' in log.text():
            return
    print(f'installing the {stack} stack for Python {version} into {venv}', flush=True)
    if wanted == 'auto' and stack == 'onedl':
        print('  the OneDL forks, since the official packages do not build on this Python')
    if not list(venv.glob('lib/*/site-packages/mmcv/_ext*')):
        check_machine(venv, env)
    ask = f'import pip, sys; sys.exit("%d.%d" % sys.version_info[:2] != "{version}")'
    if not python.exists() or not log.run(python, '-c', ask):
        if not (importlib.util.find_spec('venv') and importlib.util.find_spec('ensurepip')):
            raise InstallError(
                f'{sys.executable} cannot make virtual environments; type `sudo apt-get install '
                'python3-venv`'
            )
        subprocess.run([sys.executable, '-m', 'venv', '--clear', venv], check=True)
    mark.write_text(stack)
    log.must('uv', python, '-m', 'pip', 'install', UV)
    log.must('the settings of pip', python, '-m', 'pip', 'config', 'list')
    log.env, mmcv = uv_environment(log.text(), env), MMCV[stack]
    if gpus:  # the setting tells wheels in uv's cache apart
        uv += ['--config-settings-package', f'{mmcv}:device={gpus}']
        log.env.update(FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST=gpus)
    try_mmcv = (python, '-c', 'import mmcv.ops')
    rest = venv / 'without-mmcv.txt'
    lines = (ROOT / lock).read_text().splitlines(keepends=True)
    rest.write_text(''.join(line for line in lines if not line.startswith(f'{mmcv}==')))
    log.must('PyTorch and OpenMMLab without mmcv (several GB)', *uv, '-r', rest)
    # A wheel in uv's cache serves. Without one, the build fails at once, for want of a compiler.
    # The torch that is installed belongs to the key of the cache, so that it has to be there first.
    in_cache = log.run(*uv, '-r', lock, CXX='false')
    if not in_cache or not log.run(*try_mmcv):
        if in_cache:  # but its mmcv does not import
            log.run(python, '-m', 'uv', 'cache', 'clean', mmcv)
            uv += ['--reinstall-package', mmcv]
        path = [str(ROOT / 'tools' / 'install_py313')] if sys.version_info >= (3, 13) else []
        log.must(
            f'mmcv, compiled for {gpus or "the CPU"}: 3 to 8 minutes on two cores',
            *uv,
            *('-r', lock),
            **dict(CPPFLAGS=precompile(log, python), MAX_JOBS=job_count(env)),
            **dict(PYTHONPATH=':'.join(path), PATH=f'{python.parent}:{env.get("PATH", "")}'),
        )
        log.must('a trial of mmcv', *try_mmcv)
    # Compile to bytecode here, or the first import prints warnings about old code.
    log.must('this project', *uv, '--compile-bytecode', '-e', ROOT)
    log.must('a check of the environment', python, '-m', 'dsnet_mm')
    mark.write_text(state)


def main() -> None:
    """Read the arguments and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stack', choices=('auto', *MMCV), default='auto')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder to install into')
    args = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # which nohup sets
            signal.signal(ending, signal.default_int_handler)
    try:
        install(args.stack, Path(os.path.abspath(args.venv)))
    except InstallError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('error: interrupted; type the same command again to continue')


if __name__ == '__main__':
    main()
