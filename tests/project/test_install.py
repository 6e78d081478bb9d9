"""Test decisions and errors of the installer; .ci/run and .ci/fresh install for real."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / 'tools'))

import install
from install import Log


@pytest.mark.parametrize('minor', [10, 11, 12, 13])
def test_supported_pythons_get_the_official_stack(minor):
    assert install.choose_stack('auto', minor) == 'openmmlab'
    assert install.choose_stack('onedl', minor) == 'onedl'


def test_newer_pythons_get_the_forks():
    assert install.choose_stack('auto', 14) == 'onedl'
    with pytest.raises(SystemExit, match='3.14 is not supported by STACK=openmmlab'):
        install.choose_stack('openmmlab', 14)


@pytest.mark.parametrize('minor', [9, 99])
def test_other_pythons_are_rejected(minor):
    with pytest.raises(SystemExit, match=r'openmmlab 3\.10 to 3\.13, onedl 3\.10 to 3\.14'):
        install.choose_stack('auto', minor)


def test_foreign_folders_and_other_stacks_are_rejected(tmp_path):
    venv = tmp_path / 'a b' / 'venv'
    install.claim(venv, 'onedl')
    install.claim(venv, 'onedl')
    (venv / 'pyvenv.cfg').touch()
    with pytest.raises(SystemExit, match='contains another stack than openmmlab'):
        install.claim(venv, 'openmmlab')
    (venv / 'dsnet-mm.stack').write_text('onedl 0123')
    install.claim(venv, 'onedl')
    assert (venv / 'dsnet-mm.stack').read_text() == 'onedl 0123'
    (venv / 'dsnet-mm.stack').write_text('')  # interrupted
    install.claim(venv, 'onedl')
    (venv / 'dsnet-mm.stack').unlink()
    for folder in (venv, venv / 'pyvenv.cfg'):
        with pytest.raises(SystemExit, match='was not made by `make env`; remove it'):
            install.claim(folder, 'onedl')


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{body}\n')
    path.chmod(0o755)
    return path


def test_disk_compiler_headers_and_nvcc_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(install, 'NEEDED_GB', 0)
    cpu = {'CUDA_VISIBLE_DEVICES': ''}
    headless = script(tmp_path / 'headless', 'if grep -q Python.h; then exit 1; fi')
    for compiler in ('false', 'no-such -O2', headless):
        with pytest.raises(SystemExit, match=r'sudo apt-get install g\+\+ python3-dev'):
            install.check_machine(tmp_path, {**cpu, 'CXX': str(compiler)})
    install.check_machine(tmp_path, {**cpu, 'CXX': 'true'})
    gpu = {'CXX': 'true', 'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '9.0', 'PATH': ''}
    with pytest.raises(SystemExit, match='nvcc is missing'):
        install.check_machine(tmp_path, {**gpu, 'CUDA_HOME': str(tmp_path)})
    script(tmp_path / 'bin' / 'nvcc', '')
    install.check_machine(tmp_path, {**gpu, 'CUDA_HOME': str(tmp_path)})
    monkeypatch.setattr(install, 'NEEDED_GB', 10**6)
    with pytest.raises(SystemExit, match='but needs 1000000'):
        install.check_machine(tmp_path, cpu)
    (tmp_path / 'lib/python3/site-packages/torch').mkdir(
        parents=True
    )  # the largest package is installed
    install.check_machine(tmp_path, {**cpu, 'CXX': 'true'})


def test_mmcv_is_compiled_for_the_visible_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    script(tmp_path / 'nvidia-smi', 'echo 9.0; echo 8.0; echo 9.0')
    env = {'PATH': os.environ['PATH']}
    assert install.find_gpus(env) == '8.0;9.0'
    assert install.find_gpus({**env, 'TORCH_CUDA_ARCH_LIST': '7.5'}) == '7.5'
    assert install.find_gpus({**env, 'CUDA_VISIBLE_DEVICES': ''}) == ''
    script(tmp_path / 'nvidia-smi', 'echo no driver; exit 9')
    assert install.find_gpus(env) == ''
    assert install.find_gpus({**env, 'TORCH_CUDA_ARCH_LIST': '9.0'}) == ''
    assert install.find_gpus({**env, 'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '9.0'}) == '9.0'
    assert install.find_gpus({**env, 'FORCE_CUDA': '1'}) == 'all'


def test_pip_settings_reach_uv(tmp_path):
    settings = f"""
:env:.cert='/certs.pem'
:env:.extra-index-url='https://one/simple https://two/simple'
freeze.timeout='10'
global.cert='/other.pem'
global.constraint='/constraints.txt'
global.find-links='{tmp_path} /no/such https://more/'
global.index-url='https://user:a=b@mirror/simple'
global.proxy='http://proxy:3128'
global.timeout='60'
global.trusted-host='mirror other'
"""
    mine = {'HOME': '/root', 'UV_INDEX': 'mine', 'REQUESTS_CA_BUNDLE': '/requests.pem'}
    env = install.uv_environment(settings, {**mine, 'PYTHONPATH': '/x', 'UV_NO_CONFIG': '1'})
    given = {name: env[name] for name in install.UV_SETTINGS.values() if name in env}
    assert given == {
        'ALL_PROXY': 'http://proxy:3128',
        'SSL_CERT_FILE': '/certs.pem',
        'UV_CONSTRAINT': '/constraints.txt',
        'UV_DEFAULT_INDEX': 'https://user:a=b@mirror/simple',
        'UV_FIND_LINKS': f'{tmp_path},https://more/',
        'UV_HTTP_TIMEOUT': '60',
        'UV_INDEX': 'mine',
        'UV_INSECURE_HOST': 'mirror other',
    }
    assert env['HOME'] == '/root'
    assert not {'PYTHONPATH', 'UV_NO_CONFIG'} & set(env)
    assert install.uv_environment('', mine)['SSL_CERT_FILE'] == '/requests.pem'


def test_uv_supports_the_settings():
    """Search the binary for the variables, because uv ignores unknown variables."""
    program = Path(sys.prefix, 'bin', 'uv')
    if not program.exists():
        pytest.skip('`make env` did not install this environment')
    text = program.read_bytes()
    names = {name for name in install.UV_SETTINGS.values() if name.startswith('UV_')}
    assert len(names) > 4
    for name in names | {'UV_SYSTEM_CERTS', 'UV_INDEX_STRATEGY', 'SSL_CERT_FILE'}:
        assert name.encode() in text, name


def test_jobs_follow_cores_and_memory(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(64)))
    for gigabytes, jobs in ((500, '64'), (16, '8'), (1, '1')):
        meminfo = f'MemFree: 1 kB\nMemAvailable:   {gigabytes * 10**6} kB\n'
        assert install.job_count({}, meminfo) == jobs
        assert install.job_count({'MAX_JOBS': '5'}, meminfo) == '5'
    assert int(install.job_count({}, Path('/proc/meminfo').read_text())) >= 1


def test_commands_are_logged_with_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, 'SECONDS_BETWEEN_SIGNS', 0.1)
    log = Log(tmp_path / 'log', {**os.environ, 'WORD': 'hello'})
    assert log.run('sh', '-c', 'echo $WORD $MORE; echo "DEBUG [7/77] c++ a"; sleep 0.4', MORE='you')
    assert log.text().startswith('hello you\n')
    assert '0.0 minutes, 7/77 files of mmcv compiled' in capsys.readouterr().out
    assert not log.run('false')


def test_an_interrupt_ends_the_compilers(tmp_path, monkeypatch):
    """Interrupt at the first progress line, after the child has printed its process id."""
    log = Log(tmp_path / 'log', dict(os.environ))
    monkeypatch.setattr(install, 'SECONDS_BETWEEN_SIGNS', 0.05)

    def interrupt(*args: object, **kwargs: object) -> None:
        if log.text().endswith('\n'):
            raise KeyboardInterrupt

    monkeypatch.setattr('builtins.print', interrupt)
    with pytest.raises(KeyboardInterrupt):
        log.run('sh', '-c', 'sleep 600 & echo $!; wait')
    child = Path('/proc', log.text().split()[-1], 'stat')
    deadline = time.monotonic() + 60
    while child.exists() and child.read_text().rpartition(')')[2].split()[0] != 'Z':
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ('output', 'advice'),
    [
        ('OSError: [Errno 28] No space left on device', 'UV_CACHE_DIR'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('error: Failed to fetch\n  dns error\n  Temporary failure in name resolution', 'network'),
        ('Because there is no version of torch===2.12.1 ... unsatisfiable', 'pip config list'),
        ('Creating a venv: ensurepip is not available.', 'sudo apt-get install python3-venv'),
        ('an unknown fault', 'fix the problem in the lines above'),
        ('DEBUG marker environment: name resolution\nerror: x', 'fix the problem in the lines'),
    ],
)
def test_a_failure_is_one_sentence_with_advice(output, advice, tmp_path, capsys):
    log = Log(tmp_path / 'log', dict(os.environ))
    with pytest.raises(SystemExit) as caught:
        log.must('this step', 'sh', '-c', f'echo "{output}"; exit 1')
    assert re.fullmatch(
        rf'error: this step failed \(.*log\): [^\n]*{advice}[^\n]*', str(caught.value)
    )
    shown = capsys.readouterr().err.splitlines()
    assert shown == [line for line in output.splitlines() if not line.startswith('DEBUG')]


def test_headers_are_precompiled_and_reused(tmp_path, monkeypatch):
    """Precompile a small header instead of PyTorch's, which takes half a minute."""
    if 'clang' in subprocess.run(['c++', '--version'], capture_output=True, text=True).stdout:
        pytest.skip('clang compiles without precompiled headers')
    monkeypatch.setattr(install, 'HEADERS', '#include <known.h>\n')
    include, header = tmp_path / 'a b' / 'include', tmp_path / 'a b' / 'torch_headers.h'
    include.mkdir(parents=True)
    (include / 'known.h').write_text('inline int precompiled() { return 42; }\n')
    log = Log(tmp_path / 'log', dict(os.environ))
    flags = shlex.split(install.precompile(log, header, [include]))
    assert flags == ['-include', str(header)]
    header.write_text('#error the text was read\n')
    (tmp_path / 'main.cpp').write_text('int main() { return precompiled(); }\n')
    command = ['c++', *install.CFLAGS.split(), '-std=c++17', '-fPIC', '-DTORCH_EXTENSION_NAME=_ext']
    command += ['-DTORCH_API_INCLUDE_EXTENSION_H', *flags, '-c', str(tmp_path / 'main.cpp')]
    done = subprocess.run(
        [*command, '-o', str(tmp_path / 'main.o')], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('compiler', ['false', 'echo clang version 19'])
def test_compilers_without_precompiled_headers_work(tmp_path, compiler):
    log = Log(tmp_path / 'log', {**os.environ, 'CXX': compiler})
    assert install.precompile(log, tmp_path / 'header.h', []) == ''


def test_the_flags_match_pyproject():
    text = (ROOT / 'pyproject.toml').read_text()
    assert re.findall(r'CFLAGS = "(.*?)"', text) == [install.CFLAGS] * 2


@pytest.mark.skipif(sys.version_info < (3, 13), reason='older Pythons need no help')
def test_mmcv_setup_finds_its_version(tmp_path):
    (tmp_path / 'setup.py').write_text(
        'def version():\n'
        "    exec(compile('__version__ = 7', 'file', 'exec'))\n"
        "    return locals()['__version__']\n"
        'print(version())\n'
    )
    for path, succeeds in ((ROOT / 'tools' / 'install_py313', True), (tmp_path, False)):
        done = subprocess.run([sys.executable, str(tmp_path / 'setup.py')], capture_output=True,
                              env={**os.environ, 'PYTHONPATH': str(path)}, text=True)  # fmt: skip
        assert (done.stdout == '7\n') is succeeds, done.stderr


def test_an_error_is_one_sentence_without_a_traceback(tmp_path):
    (tmp_path / 'mine').touch()
    command = [sys.executable, str(ROOT / 'tools' / 'install.py'), '--venv', str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(r'error: .* was not made by `make env`.*\n', result.stderr)


class Recorded(Log):
    """Record commands instead of running them; commands with a word of ``failing`` fail."""

    steps: list[str] = []
    failing: tuple[str, ...] = ()

    def run(self, *command: str | Path, **env: str) -> bool:
        words = ' '.join(map(str, command)) + ''.join(f' {k}={v}' for k, v in env.items())
        self.steps.append(words)
        site = self.file.parent / 'lib/python3/site-packages'
        if ' -m venv ' in words:
            for folder in (site / 'torch/include', self.file.parent / 'bin'):
                folder.mkdir(parents=True)
            (self.file.parent / 'bin/python').touch()
        if 'torch_headers.h' in words and 'MAX_JOBS' in words:
            (site / 'mmcv').mkdir()
            (site / 'mmcv/_ext.so').touch()
        self.file.write_text('Would make no changes' if '--dry-run' in words else '')
        if 'CTRL-C' in self.failing and '-r ' in words:
            raise KeyboardInterrupt
        return not any(word in words for word in self.failing)


@pytest.fixture
def make_env(tmp_path, monkeypatch):
    """Return a function that installs with failing commands and returns all commands."""
    monkeypatch.setattr(install, 'Log', Recorded)
    monkeypatch.setattr(install, 'check_machine', lambda *_: None)

    def run(*failing: str) -> str:
        Recorded.steps, Recorded.failing = [], failing
        install.install('openmmlab', tmp_path / 'venv')
        return '\n'.join(Recorded.steps)

    return run


def test_an_interrupted_installation_continues(make_env):
    with pytest.raises(KeyboardInterrupt):
        make_env('CTRL-C')
    assert 'MAX_JOBS' in make_env('CXX=false')
    steps = make_env()
    assert '--offline --dry-run' in steps
    assert steps.count('\n') == 0


def test_a_broken_cached_wheel_is_built_again(make_env):
    with pytest.raises(SystemExit, match='Import mmcv.ops failed'):
        make_env('import mmcv.ops')
    assert 'cache clean mmcv' in '\n'.join(Recorded.steps)


def test_a_new_gpu_gets_a_new_mmcv(make_env, monkeypatch):
    """Uninstall mmcv first, because uv would keep an installed wheel of the same version."""
    make_env('CXX=false')
    monkeypatch.setattr(install, 'find_gpus', lambda env: '9.0')
    steps = make_env('CXX=false')
    assert steps.index('pip uninstall') < steps.index('CXX=false')
    assert 'mmcv:device=9.0' in steps


def test_a_second_run_has_nothing_to_do():
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    mark = Path(sys.prefix, 'dsnet-mm.stack')
    state = mark.read_text() if mark.exists() else 'none'
    stack, gpus = (state.split() or ['none'])[0], install.find_gpus(dict(os.environ))
    if stack == 'none' or state != install.fingerprint(stack, version, gpus):
        pytest.skip('`make env` of this clone did not install this environment')
    base = str(Path(sys.base_prefix, 'bin', f'python{version}'))
    command = [base, str(ROOT / 'tools' / 'install.py'), '--stack', stack, '--venv', sys.prefix]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
