"""What the installer decides, refuses and explains; .ci/run and .ci/fresh install for real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / 'tools'))

import install
from install import InstallError, Log


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12', '3.13'])
def test_every_supported_python_gets_the_official_stack(python):
    assert install.choose_stack('auto', python) == 'openmmlab'
    assert install.choose_stack('onedl', python) == 'onedl'


def test_the_forks_stand_in_where_the_official_stack_has_no_build(monkeypatch):
    monkeypatch.setitem(install.PYTHONS, 'openmmlab', ('3.10', '3.12'))
    assert install.choose_stack('auto', '3.13') == 'onedl'
    assert install.choose_stack('auto', '3.12') == 'openmmlab'
    with pytest.raises(InstallError, match='3.13 is not supported by STACK=openmmlab'):
        install.choose_stack('openmmlab', '3.13')


@pytest.mark.parametrize('python', ['3.9', '3.99'])
def test_other_pythons_are_refused_with_those_that_work(python):
    with pytest.raises(InstallError, match=r'openmmlab 3\.10 to 3\.13, onedl 3\.10 to 3\.13'):
        install.choose_stack('auto', python)


def test_folders_of_others_and_of_the_other_stack_are_refused(tmp_path):
    venv = tmp_path / 'venv'
    install.check_folder(venv, 'onedl')
    venv.mkdir()
    install.check_folder(venv, 'onedl')
    (venv / 'pyvenv.cfg').touch()
    with pytest.raises(InstallError, match='is not of `make env`'):
        install.check_folder(venv, 'onedl')
    (venv / 'dsnet-mm.stack').write_text('onedl 0123')
    install.check_folder(venv, 'onedl')
    with pytest.raises(InstallError, match='holds another stack than openmmlab'):
        install.check_folder(venv, 'openmmlab')
    with pytest.raises(InstallError, match='is not of `make env`'):
        install.check_folder(venv / 'pyvenv.cfg', 'onedl')


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{body}\n')
    path.chmod(0o755)
    return path


def test_disk_compiler_headers_and_nvcc_are_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(install, 'NEEDED_GB', 0)
    cpu = {'CUDA_VISIBLE_DEVICES': ''}
    headless = script(tmp_path / 'headless', 'if grep -q Python.h; then exit 1; fi')
    for compiler, package in (('false', 'g[+][+]'), ('no-such -O2', 'g[+][+]'),
                              (headless, 'python3-dev')):  # fmt: skip
        with pytest.raises(InstallError, match=f'sudo apt-get install {package}'):
            install.check_machine(tmp_path, {**cpu, 'CXX': str(compiler)})
    install.check_machine(tmp_path, {**cpu, 'CXX': 'true'})
    gpu = {'CXX': 'true', 'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '9.0', 'PATH': ''}
    with pytest.raises(InstallError, match='nvcc is missing'):
        install.check_machine(tmp_path, {**gpu, 'CUDA_HOME': str(tmp_path)})
    script(tmp_path / 'bin' / 'nvcc', '')
    install.check_machine(tmp_path, {**gpu, 'CUDA_HOME': str(tmp_path)})
    monkeypatch.setattr(install, 'NEEDED_GB', 10**6)
    with pytest.raises(InstallError, match='but needs 1000000'):
        install.check_machine(tmp_path, cpu)


def test_mmcv_is_compiled_for_the_gpus_that_are_visible(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    script(tmp_path / 'nvidia-smi', 'echo 9.0; echo 8.0; echo 9.0')
    env = {'PATH': os.environ['PATH']}
    assert install.find_gpus(env) == '8.0;9.0'
    assert install.find_gpus({**env, 'TORCH_CUDA_ARCH_LIST': '7.5'}) == '7.5'
    assert install.find_gpus({**env, 'CUDA_VISIBLE_DEVICES': ''}) == ''
    script(tmp_path / 'nvidia-smi', 'echo no driver; exit 9')
    assert install.find_gpus(env) == ''
    assert install.find_gpus({**env, 'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '9.0'}) == '9.0'


def test_settings_of_pip_reach_uv():
    settings = """
:env:.cert='/certs.pem'
:env:.extra-index-url='https://one/simple https://two/simple'
freeze.timeout='10'
global.cert='/other.pem'
global.constraint='/constraints.txt'
global.find-links='/wheels /more'
global.index-url='https://user:a=b@mirror/simple'
"""
    env = install.uv_environment(
        settings, {'HOME': '/root', 'PYTHONPATH': '/x', 'UV_INDEX': 'mine'}
    )
    given = {name: env[name] for name in install.UV_SETTINGS.values() if name in env}
    assert given == {
        'SSL_CERT_FILE': '/certs.pem',
        'UV_CONSTRAINT': '/constraints.txt',
        'UV_DEFAULT_INDEX': 'https://user:a=b@mirror/simple',
        'UV_FIND_LINKS': '/wheels,/more',
        'UV_INDEX': 'mine',
    }
    assert env['HOME'] == '/root'
    assert 'PYTHONPATH' not in env


def test_jobs_follow_cores_and_memory(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(64)))
    pages = {'SC_PAGE_SIZE': 1_000_000_000}
    for gigabytes, jobs in ((500, '64'), (16, '8'), (1, '1')):
        monkeypatch.setattr(os, 'sysconf', {**pages, 'SC_AVPHYS_PAGES': gigabytes}.__getitem__)
        assert install.job_count({}) == jobs
        assert install.job_count({'MAX_JOBS': '5'}) == '5'


def test_commands_are_logged_with_signs_of_life(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, 'SECONDS_BETWEEN_SIGNS', 0.1)
    log = Log(tmp_path / 'log', {**os.environ, 'WORD': 'hello'})
    assert log.run('sh', '-c', 'echo $WORD $MORE; echo "DEBUG [7/77] c++ a"; sleep 0.4', MORE='you')
    assert log.text().startswith('hello you\n')
    assert '0.0 minutes, 7/77 files of mmcv compiled' in capsys.readouterr().out
    assert not log.run('false')


def test_an_interrupt_ends_the_compilers(tmp_path):
    log = Log(tmp_path / 'log', dict(os.environ))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt):
        log.run('sh', '-c', 'sleep 60 & echo $!; wait')
    child = Path('/proc', log.text().split()[-1], 'stat')
    deadline = time.monotonic() + 10
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
        ('an unknown fault', 'correct what the lines above report'),
    ],
)
def test_a_failure_is_one_sentence_with_advice(output, advice, tmp_path, capsys):
    log = Log(tmp_path / 'log', dict(os.environ))
    with pytest.raises(InstallError) as caught:
        log.must('this step', 'sh', '-c', f'echo "{output}"; exit 1')
    assert re.fullmatch(rf'this step failed \(.*log\): [^\n]*{advice}[^\n]*', str(caught.value))
    assert output.splitlines()[0] in capsys.readouterr().err


def test_headers_are_precompiled_and_used(tmp_path, monkeypatch):
    """With a header in the place of PyTorch's, which takes half a minute."""
    monkeypatch.setattr(install, 'HEADERS', 'inline int precompiled() { return 42; }\n')
    log = Log(tmp_path / 'log', dict(os.environ))
    flags = install.precompile(log, Path(sys.executable)).split()
    assert flags == ['-include', str(tmp_path / 'torch_headers.h')]
    (tmp_path / 'torch_headers.h').write_text('#error the text was read\n')
    (tmp_path / 'main.cpp').write_text('int main() { return precompiled(); }\n')
    command = ['c++', *install.CFLAGS.split(), '-std=c++17', '-fPIC', '-DTORCH_EXTENSION_NAME=_ext']
    command += ['-DTORCH_API_INCLUDE_EXTENSION_H', *flags, '-c', str(tmp_path / 'main.cpp')]
    done = subprocess.run(
        [*command, '-o', str(tmp_path / 'main.o')], capture_output=True, text=True
    )
    if 'clang' in subprocess.run(['c++', '--version'], capture_output=True, text=True).stdout:
        pytest.skip('clang compares the time of the header')
    assert done.returncode == 0, done.stderr


def test_a_compiler_without_precompiled_headers_does_without(tmp_path):
    log = Log(tmp_path / 'log', {**os.environ, 'CXX': 'false'})
    assert install.precompile(log, Path(sys.executable)) == ''


def test_the_flags_are_those_of_the_project():
    text = (ROOT / 'pyproject.toml').read_text()
    assert re.findall(r'CFLAGS = "(.*?)"', text) == [install.CFLAGS] * 2


@pytest.mark.skipif(sys.version_info < (3, 13), reason='older Pythons need no help')
def test_the_setup_of_mmcv_finds_its_version(tmp_path):
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


def test_a_refusal_is_one_sentence_without_a_traceback(tmp_path):
    (tmp_path / 'mine').touch()
    command = [sys.executable, str(ROOT / 'tools' / 'install.py'), '--venv', str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(r'error: .* is not of `make env`.*\n', result.stderr)


def test_a_second_run_has_nothing_to_do():
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    mark = Path(sys.prefix, 'dsnet-mm.stack')
    state = mark.read_text() if mark.exists() else 'none'
    stack, gpus = state.split()[0], install.find_gpus(dict(os.environ))
    if stack == 'none' or state != install.fingerprint(stack, version, gpus):
        pytest.skip('this environment is not what `make env` makes of this clone')
    base = str(Path(sys.base_prefix, 'bin', f'python{version}'))
    command = [base, str(ROOT / 'tools' / 'install.py'), '--stack', stack, '--venv', sys.prefix]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
