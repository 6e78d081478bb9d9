"""The decisions of the installer, with commands that only pretend, and the wheel of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))

import install  # noqa: E402
import install_checks as checks  # noqa: E402
from install_checks import InstallError  # noqa: E402


class FakeRunner:
    """Pretends to run the installer's commands, and keeps them in ``commands``."""

    def __init__(self, installer: install.Installer) -> None:
        self.installer = installer
        self.log = installer.venv / install.LOG_FILE
        self.commands = []
        self.failing = []  # patterns of commands that fail; used up one by one

    def run(self, command, **env):
        line = ' '.join(command).replace(str(self.installer.python), 'python')
        self.commands.append(line)
        for pattern in self.failing:
            if re.search(pattern, line):
                self.failing.remove(pattern)
                return False
        if '-m venv' in line:
            self._make_venv()
        if 'pip install' in line:
            for name, version in self.installer.pins.items():
                if f'{name}===' in line or 'mmcv' in name and '.whl' in line:
                    self._add(name, version)
            if 'numpy<3' in line:
                self._add('opencv-python', '5.0')
                for name, version in self.installer.pins.items():
                    if f'{name}==' in line:
                        self._add(name, version)
        if 'pip wheel' in line:
            folder = command[command.index('--wheel-dir') + 1]
            Path(folder, 'mmcv.whl').write_text(' '.join(f'{k}={v}' for k, v in env.items()))
        return True

    def output(self):
        return 'one line\nfatal error: Killed signal terminated program cc1plus\n'

    def find(self, pattern):
        return [line for line in self.commands if re.search(pattern, line)]

    def _make_venv(self):
        version = f'{sys.version_info[0]}.{sys.version_info[1]}.0'
        (self.installer.venv / 'pyvenv.cfg').write_text(f'home = /usr\nversion = {version}\n')
        self.installer.python.parent.mkdir()
        self.installer.python.touch()

    def _add(self, name, version):
        python = f'python{sys.version_info[0]}.{sys.version_info[1]}'
        site = self.installer.venv / 'lib' / python / 'site-packages'
        for old in site.glob(f'{name.replace("-", "_")}-*.dist-info'):
            (old / 'METADATA').unlink()
            old.rmdir()
        folder = site / f'{name.replace("-", "_")}-{version}.dist-info'
        folder.mkdir(parents=True)
        (folder / 'METADATA').write_text(f'Name: {name}\nVersion: {version}\n')


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that makes an installer whose commands only pretend."""
    monkeypatch.setattr(checks, 'check_compiler', lambda *_: None)
    monkeypatch.setattr(checks, 'check_disk', lambda *_: None)
    env = {'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'CUDA_VISIBLE_DEVICES': '', 'PATH': ''}

    def make(stack='openmmlab', venv='venv', **more):
        installer = install.Installer(stack, tmp_path / venv, {**env, **more})
        installer.runner = FakeRunner(installer)
        return installer

    return make


def cached_wheels(installer) -> list[Path]:
    return list(checks.cache_folder(installer.env, installer.venv, installer.mmcv_key).glob('*'))


@pytest.mark.parametrize('stack', ['openmmlab', 'onedl'])
def test_fresh_install_runs_the_steps_in_order(make, stack):
    installer = make(stack, 'a venv')
    installer.install()
    steps = ['-m venv', 'torch===', 'numpy<3', 'pip wheel', r'\.whl', '--editable', '-m dsnet_mm']
    found = [installer.runner.find(step) for step in steps]
    assert [len(lines) for lines in found] == [1] * len(steps)
    positions = [installer.runner.commands.index(lines[0]) for lines in found]
    assert positions == sorted(positions)
    pins = installer.pins
    torch, rest, wheel = found[1][0], found[2][0], found[3][0]
    versions = [f'{name}==={pins[name]}' for name in ('torch', 'torchvision')]
    assert torch == f'python -m pip install {" ".join(versions)}'
    assert '--constraint' in rest
    assert not re.search(r' (torch|torchvision|(onedl-)?mmcv)=', rest)
    assert 'setuptools>=80,<81' in rest
    assert 'pytest==' in rest
    assert {'--no-build-isolation', '--no-deps', '--no-cache-dir'} <= set(wheel.split())
    assert wheel.endswith(f' {installer.mmcv}==={pins[installer.mmcv]}')
    constraints = installer.constraints.read_text().split()
    assert set(versions) <= set(constraints)
    assert 'setuptools>=80,<81' in constraints


def test_second_run_does_nothing_until_something_changes(make, monkeypatch):
    make().install()
    again = make()
    again.install()
    assert again.runner.commands == []

    lines = install.requirement_lines
    monkeypatch.setattr(
        install,
        'requirement_lines',
        lambda name: [x.replace('0.10.7', '0.10.6') for x in lines(name)],
    )
    assert not make().is_complete()
    monkeypatch.undo()
    assert make().is_complete()
    make().runner._add('torch', '2.13.0')
    changed = make()
    changed.install()
    assert changed.runner.find('torch===')
    assert not changed.runner.find('-m venv')


def test_fingerprint_follows_the_requirement_files(make, monkeypatch):
    before = make().fingerprint
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, 'read_text', lambda p, **k: read_text(p, **k) + '#' * (p.name == 'dev.txt')
    )
    assert make().fingerprint != before


def test_interrupted_install_goes_on(make):
    first = make()
    first.runner.failing = ['pip wheel']
    with pytest.raises(InstallError):
        first.install()
    second = make()
    second.install()
    assert not second.runner.find('-m venv')
    assert second.is_complete()


def test_cached_wheel_is_used_and_a_broken_one_built_anew(make):
    make().install()
    other = make(venv='other')
    other.install()
    assert not other.runner.find('pip wheel')
    assert other.runner.find(r'\.whl')

    (wheel,) = [path for path in cached_wheels(other) if path.suffix == '.whl']
    wheel.write_text('of an interrupted build')
    broken = make(venv='third')
    broken.runner.failing = ['import mmcv.ops']
    broken.install()
    assert len(broken.runner.find('pip wheel')) == 1
    assert len(broken.runner.find(r'\.whl')) == 2
    assert 'MMCV_WITH_OPS=1' in wheel.read_text()


def test_broken_wheel_is_gone_even_if_no_other_can_be_built(make):
    make().install()
    other = make(venv='other')
    other.runner.failing = ['import mmcv.ops', 'pip wheel']
    with pytest.raises(InstallError):
        other.install()
    assert [path.name for path in cached_wheels(other)] == ['lock']


def test_wheel_that_never_imports_is_not_kept(make):
    installer = make()
    installer.runner.failing = ['import mmcv.ops']
    with pytest.raises(InstallError, match='mmcv 2.1.0 with its compiled operations'):
        installer.install()
    assert [path.name for path in cached_wheels(installer)] == ['lock']


def test_failed_build_leaves_no_wheel(make):
    installer = make()
    left_over = checks.cache_folder(installer.env, installer.venv, installer.mmcv_key) / 'build-1'
    left_over.mkdir()
    installer.runner.failing = ['pip wheel']
    with pytest.raises(InstallError):
        installer.install()
    assert [path.name for path in cached_wheels(installer)] == ['lock']


def test_mmcv_is_kept_by_torch_and_device(make, monkeypatch):
    keys = {make('openmmlab').mmcv_key, make('onedl').mmcv_key}
    keys.add(make(FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST='9.0').mmcv_key)
    lines = install.requirement_lines
    monkeypatch.setattr(
        install,
        'requirement_lines',
        lambda n: [x.replace('torch==2.12.1', 'torch==2.12.2') for x in lines(n)],
    )
    keys.add(make().mmcv_key)
    assert len(keys) == 4


def test_compiling_uses_ninja_and_the_gpu_where_there_is_one(make, monkeypatch):
    monkeypatch.setattr(checks, 'check_nvcc', lambda _: None)
    installer = make(FORCE_CUDA='1', MAX_JOBS='3', PATH='/bin')
    installer.install()
    (wheel,) = [path for path in cached_wheels(installer) if path.suffix == '.whl']
    settings = wheel.read_text().split()
    path = f'PATH={installer.python.parent}:/bin'
    assert settings == ['MMCV_WITH_OPS=1', 'MAX_JOBS=3', path, 'FORCE_CUDA=1']


def test_opencv_without_display_libraries_is_replaced(make):
    installer = make()
    installer.runner.failing = ['import cv2']
    installer.install()
    assert installer.runner.find('pip uninstall --yes opencv-python opencv-python-headless')
    (command,) = installer.runner.find('install .*opencv-python-headless===5.0$')
    assert '--constraint' in command


def test_folder_of_somebody_else_is_left_alone(make, tmp_path):
    (tmp_path / 'venv').mkdir()
    (tmp_path / 'venv' / 'pyvenv.cfg').touch()
    installer = make()
    with pytest.raises(InstallError, match='was not made by this installer'):
        installer.install()
    assert installer.runner.commands == []
    assert os.listdir(tmp_path / 'venv') == ['pyvenv.cfg']


def test_the_other_stack_is_refused(make):
    make('onedl').install()
    with pytest.raises(InstallError, match='holds the onedl stack'):
        make('openmmlab').install()


@pytest.mark.parametrize('breakage', ['version', 'python', 'pip'])
def test_unusable_environment_is_made_anew(make, breakage):
    first = make()
    first.install()
    config = first.venv / 'pyvenv.cfg'
    second = make()
    if breakage == 'version':
        config.write_text('version = 3.1.0\n')
        first.note(fingerprint='')
    elif breakage == 'python':
        first.python.unlink()
        first.python.symlink_to('/no/longer/there')
    else:
        first.note(fingerprint='')
        second.runner.failing = ['pip --version']
    second.install()
    assert len(second.runner.find('-m venv')) == 1
    assert second.is_complete()


def test_failing_step_says_which_why_and_what_to_type(make, capsys):
    installer = make('onedl')
    installer.runner.failing = ['pip wheel']
    with pytest.raises(InstallError) as caught:
        installer.install()
    sentence = str(caught.value)
    assert sentence.startswith('failed at "mmcv 2.3.6 with its compiled operations (cpu)"')
    assert str(installer.runner.log) in sentence
    assert 'set MAX_JOBS=1, then type the same command again' in sentence
    assert '\n' not in sentence
    assert 'fatal error: Killed' in capsys.readouterr().err


def test_python_path_of_the_shell_does_not_reach_the_commands(make):
    installer = make(PYTHONPATH='/elsewhere', PIP_DEFAULT_TIMEOUT='60')
    assert 'PYTHONPATH' not in installer.env
    assert installer.env['PIP_DEFAULT_TIMEOUT'] == '60'


def test_second_run_waits_for_the_first(tmp_path, capsys):
    held, order = threading.Event(), []

    def first():
        with install.locked(tmp_path / 'lock', 'it'):
            held.set()
            time.sleep(0.2)
            order.append('first')

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with install.locked(tmp_path / 'lock', 'it'):
        order.append('second')
    thread.join()
    assert order == ['first', 'second']
    assert 'another run is at work on it' in capsys.readouterr().out


def test_runner_logs_and_tells_success(tmp_path):
    runner = install.Runner(tmp_path / 'a log', {'WORD': 'hello'})
    assert runner.run(['sh', '-c', 'echo $WORD; echo $MORE >&2'], MORE='there')
    assert runner.output().splitlines()[-2:] == ['hello', 'there']
    assert not runner.run(['sh', '-c', 'echo bad; exit 3'])
    assert 'hello' not in runner.output()
    assert 'hello' in runner.log.read_text()


def test_runner_shows_that_a_long_command_lives(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, 'SECONDS_BETWEEN_SIGNS', 0.1)
    runner = install.Runner(tmp_path / 'log', dict(os.environ))
    assert runner.run(['sh', '-c', 'echo "  [7/118] c++ a.o"; sleep 0.4'])
    assert '0:00 elapsed, 7 of 118 files compiled' in capsys.readouterr().out


def test_interrupt_ends_what_was_started(tmp_path, monkeypatch):
    monkeypatch.setattr(install.Runner, '_wait', lambda *_: time.sleep(0.3) or 1 / 0)
    runner = install.Runner(tmp_path / 'log', dict(os.environ))
    with pytest.raises(ZeroDivisionError):
        runner.run(['sh', '-c', 'sleep 60 & echo $!; wait'])
    child = int(runner.output().split()[-1])
    deadline = time.monotonic() + 5
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def _is_alive(pid: int) -> bool:
    status = Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rpartition(')')[2].split()[0] != 'Z'


def test_checks_refuse_what_cannot_work(tmp_path, monkeypatch):
    checks.check_python((3, 10), 'linux', 'openmmlab')
    with pytest.raises(InstallError, match='this is Python 3.9, and 3.10'):
        checks.check_python((3, 9), 'linux', 'openmmlab')
    with pytest.raises(InstallError, match='not darwin'):
        checks.check_python((3, 11), 'darwin', 'openmmlab')
    with pytest.raises(InstallError, match='Python 3.13, with which mmcv'):
        checks.check_python((3, 13), 'linux', 'openmmlab')
    checks.check_python((3, 13), 'linux', 'onedl')
    checks.check_disk(tmp_path, 0)
    with pytest.raises(InstallError, match='about 1000000 GB are needed'):
        checks.check_disk(tmp_path, 1_000_000)
    checks.check_venv_modules()
    monkeypatch.setattr(checks.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InstallError, match='apt-get install python3-venv'):
        checks.check_venv_modules()


def test_compiler_and_headers_are_tried(tmp_path):
    with pytest.raises(InstallError, match='compiler `false` does not work'):
        checks.check_compiler({'CXX': 'false'}, tmp_path)
    with pytest.raises(InstallError, match='compiler `no-such-compiler -O2` does not work'):
        checks.check_compiler({'CXX': 'no-such-compiler -O2'}, tmp_path)
    with pytest.raises(InstallError, match='python3-dev'):
        checks.check_compiler({'CXX': 'true'}, tmp_path)
    (tmp_path / 'Python.h').touch()
    checks.check_compiler({'CXX': 'true'}, tmp_path)


def test_nvcc_is_looked_for_where_pytorch_looks(tmp_path):
    env = {'CUDA_HOME': str(tmp_path), 'PATH': ''}
    with pytest.raises(InstallError, match='CUDA_VISIBLE_DEVICES= make'):
        checks.check_nvcc(env)
    _script(tmp_path / 'bin' / 'nvcc', '')
    checks.check_nvcc(env)
    checks.check_nvcc({'CUDA_HOME': '/nowhere', 'PATH': str(tmp_path / 'bin')})


def test_device_is_the_gpu_that_can_be_seen(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    env = {'PATH': str(tmp_path)}
    assert checks.ops_device(env) == 'cpu'
    _script(tmp_path / 'nvidia-smi', 'echo 9.0; echo 8.0; echo 9.0')
    assert checks.ops_device(env) == 'cuda-8.0-9.0'
    assert checks.ops_device({**env, 'TORCH_CUDA_ARCH_LIST': '7.5'}) == 'cuda-7.5'
    assert checks.ops_device({**env, 'CUDA_VISIBLE_DEVICES': ''}) == 'cpu'
    assert checks.ops_device({**env, 'CUDA_VISIBLE_DEVICES': '', 'FORCE_CUDA': '1'}) == 'cuda-'
    _script(tmp_path / 'nvidia-smi', 'echo no driver; exit 9')
    assert checks.ops_device(env) == 'cpu'


def _script(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{body}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ('env', 'cores', 'available_gb', 'jobs'),
    [({}, 2, 16, 2), ({}, 64, 16, 8), ({}, 4, 1, 1), ({'MAX_JOBS': '5'}, 2, 1, 5)],
)
def test_jobs_follow_cores_and_memory(env, cores, available_gb, jobs):
    meminfo = f'MemTotal: 99 kB\nMemAvailable:   {available_gb * 1_000_000} kB\n'
    assert checks.job_count(env, cores, meminfo) == jobs
    assert checks.job_count(env, cores, '') == (5 if env else cores)


def test_cache_moves_into_the_environment_without_a_home(tmp_path):
    env = {'XDG_CACHE_HOME': str(tmp_path)}
    assert checks.cache_folder(env, tmp_path, 'a/b') == tmp_path / 'dsnet-mm' / 'wheels' / 'a_b'
    (tmp_path / 'file').touch()
    env = {'XDG_CACHE_HOME': str(tmp_path / 'file')}
    assert checks.cache_folder(env, tmp_path / 'venv', 'key') == tmp_path / 'venv/wheels/key'
    with pytest.raises(InstallError, match='cannot be written'):
        checks.cache_folder(env, tmp_path / 'file', 'key')


@pytest.mark.parametrize(
    ('log', 'word'),
    [
        ('OSError: [Errno 28] No space left on device', 'TMPDIR'),
        ('mmcv/ops.cpp:1: fatal error: Python.h: No such file or directory', 'python3-dev'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('OSError: CUDA_HOME environment variable is not set.', 'CUDA_VISIBLE_DEVICES='),
        ('Temporary failure in name resolution\nNo matching distribution', 'network'),
        ('ERROR: No matching distribution found for torch===2.12.1', 'PYTHON='),
    ],
)
def test_known_failures_get_advice(log, word):
    assert word in checks.hint_for(log)
    assert checks.hint_for('something else') == ''


def test_script_ends_with_one_sentence_and_no_traceback(tmp_path):
    (tmp_path / 'mine').touch()
    command = [sys.executable, str(ROOT / 'tools' / 'install.py'), '--venv', str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(r'error: .* was not made by this installer.*\n', result.stderr)


@pytest.mark.parametrize(
    ('stack', 'venv'),
    [('openmmlab', '.venv'), ('onedl', '.venv-onedl')],
    ids=['openmmlab', 'onedl'],
)
def test_make_keeps_the_stacks_apart(stack, venv):
    command = ['make', '--dry-run', 'demo', 'test', 'quick', 'lint', f'STACK={stack}']
    lines = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert f"tools/install.py --stack '{stack}' --venv '{venv}'" in lines[0]
    assert len(lines) == 6
    assert all(f'"{venv}/bin/python" ' in line for line in lines[1:])


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel of this project, opened, built from a copy so that the clone stays as it is."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'a clone'
    source.mkdir()
    for name in ('setup.py', 'setup.cfg', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml'):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, source)
    for name in ('dsnet_mm', 'configs', 'tools', 'requirements'):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name)
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
    subprocess.run([*command, '-w', str(folder), str(source)], check=True)
    with zipfile.ZipFile(next(folder.glob('*.whl'))) as archive:
        yield archive


def test_wheel_holds_code_configs_and_tools(wheel):
    names = set(wheel.namelist())
    for folder, pattern in (('dsnet_mm', '*.py'), ('configs', '*.py'), ('tools', '*.py')):
        for file in (ROOT / folder).rglob(pattern):
            name = str(file.relative_to(ROOT))
            packed = name if folder == 'dsnet_mm' else f'dsnet_mm/.mim/{name}'
            # The installer is of use in a clone only.
            assert (packed in names) is not file.name.startswith('install'), packed
    assert any(name.startswith('dsnet_mm/.mim/tools/') for name in names)
    assert any(name.endswith('/LICENSE') for name in names)
    assert all(name.startswith('dsnet_mm') for name in names)


def test_installing_the_wheel_brings_no_torch_but_for_extras(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith('/METADATA')]
    text = wheel.read(name).decode()
    needs = re.findall('^Requires-Dist: (.*)$', text, re.MULTILINE)
    assert needs
    assert all('extra ==' in line for line in needs)
    for stack in ('openmmlab', 'onedl', 'export', 'dev'):
        pins = install.requirement_lines(stack)
        found = [line for line in needs if re.search(f'extra == .{stack}.', line)]
        assert len(found) == len(pins)
    assert '\nRequires-Python: >=3.10\n' in text
