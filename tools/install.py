"""Make a virtual environment with PyTorch, OpenMMLab and this project: ``make env`` calls it.

Standard library only, since it runs before anything is installed. A run that was interrupted
goes on where it stopped; a run that finds everything in place ends at once.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

import install_checks as checks
from install_checks import InstallError

ROOT = Path(__file__).resolve().parent.parent
# Everything of our own in an environment, by which it is told from somebody else's.
OWN = 'dsnet-mm.'
STATE_FILE, LOCK_FILE, LOG_FILE = f'{OWN}json', f'{OWN}lock', f'{OWN}log'
MORE = ('build', 'export', 'dev')  # requirements of both stacks
NEEDED_GB = 8
SECONDS_BETWEEN_SIGNS = 30
SECONDS_TO_TIDY_UP = 5


def requirement_lines(name: str) -> list[str]:
    """Return the requirements of ``requirements/<name>.txt``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def exactly(name: str, version: str) -> str:
    """Return the requirement that takes this version as written.

    ``torch==2.13.0`` would also take a 2.13.0+cpu lying around, which no torchvision fits.
    """
    return f'{name}==={version}'


@contextlib.contextmanager
def locked(file: Path, what: str):
    """Hold ``file`` so that a second run waits; the system frees it however this one ends."""
    with open(file, 'a') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'  another run is at work on {what}: waiting for it to end', flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # some network file systems have no locks
            pass
        yield


class Runner:
    """Runs commands with their output in a log, and shows that they are alive."""

    def __init__(self, log: Path, env: dict[str, str]) -> None:
        self.log = log
        self.env = env
        self.begun = 0

    def run(self, command: list[str], **env: str) -> bool:
        """Run ``command`` with ``env`` added to the environment; tell whether it succeeded."""
        with open(self.log, 'a', encoding='utf-8') as log:
            self.begun = log.tell()
            print(f'\n$ {shlex.join(command)}', file=log, flush=True)
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**self.env, **env},
                cwd=self.log.parent,
                start_new_session=True,
            )
        try:
            self._wait(process)
        except BaseException:
            self._end(process)
            raise
        return process.returncode == 0

    def _end(self, process: subprocess.Popen) -> None:
        # The whole group, or compilers go on; an interrupt first, on which pip tidies up.
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, ending)
                process.wait(timeout=SECONDS_TO_TIDY_UP)

    def _wait(self, process: subprocess.Popen) -> None:
        start = time.monotonic()
        while True:
            try:
                process.wait(timeout=SECONDS_BETWEEN_SIGNS)
                return
            except subprocess.TimeoutExpired:
                minutes, seconds = divmod(round(time.monotonic() - start), 60)
                done = re.findall(r'^\s*\[(\d+)/(\d+)\]', self.output(), re.MULTILINE)
                files = f', {done[-1][0]} of {done[-1][1]} files compiled' if done else ''
                print(f'    {minutes}:{seconds:02} elapsed{files}', flush=True)

    def output(self) -> str:
        """Return what the last command wrote."""
        return self.log.read_bytes()[self.begun :].decode(errors='replace')


class Installer:
    """The steps from nothing to a verified environment, each of which may already be done."""

    def __init__(self, stack: str, venv: Path, env: dict[str, str]) -> None:
        self.stack = stack
        self.venv = venv
        # What the shell has on its Python path is no part of this environment.
        self.env = {k: v for k, v in env.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
        self.lines = requirement_lines(stack)
        self.pins = dict(line.split('==') for line in self.lines if '==' in line)
        self.mmcv = 'onedl-mmcv' if stack == 'onedl' else 'mmcv'
        self.device = checks.ops_device(self.env)
        self.python = venv / 'bin' / 'python'
        self.constraints = venv / f'{OWN}constraints.txt'
        self.runner = Runner(venv / LOG_FILE, self.env)
        self.step = 'the first checks'

    @property
    def mmcv_key(self) -> str:
        """All that an mmcv wheel depends on: where any of it differs it does not import."""
        abi = sysconfig.get_config_var('SOABI')
        libc = ''.join(platform.libc_ver())
        mmcv, torch = self.pins[self.mmcv], self.pins['torch']
        return f'{self.mmcv}-{mmcv}-torch-{torch}-{abi}-{libc}-{self.device}'

    @property
    def fingerprint(self) -> str:
        """Changes with everything that a finished environment depends on."""
        files = [ROOT / 'requirements' / f'{name}.txt' for name in (self.stack, *MORE)]
        files += [ROOT / 'setup.py', ROOT / 'dsnet_mm' / 'version.py', Path(__file__)]
        parts = [self.mmcv_key, str(self.venv), str(ROOT)]
        parts += [file.read_text(encoding='utf-8') for file in files]
        return hashlib.sha256('\0'.join(parts).encode()).hexdigest()

    def state(self) -> dict[str, str]:
        """Return what earlier runs noted in the environment."""
        try:
            return json.loads((self.venv / STATE_FILE).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}

    def note(self, **state: str) -> None:
        """Add ``state`` to what is noted, in one piece or not at all."""
        draft = self.venv / f'{STATE_FILE}.new'
        draft.write_text(json.dumps({**self.state(), **state}), encoding='utf-8')
        os.replace(draft, self.venv / STATE_FILE)

    def installed(self) -> dict[str, str]:
        """Return the versions of all distributions in the environment."""
        python = f'python{sys.version_info[0]}.{sys.version_info[1]}'
        site = self.venv / 'lib' / python / 'site-packages'
        found = {}
        for distribution in metadata.distributions(path=[str(site)]):
            name = distribution.metadata['Name'] or 'a half removed one'
            found[name.lower().replace('_', '-')] = distribution.version
        return found

    def is_complete(self) -> bool:
        """Tell whether an earlier run finished and nobody changed a pinned package since."""
        finished = self.state().get('fingerprint') == self.fingerprint
        return finished and self.python.exists() and self.pins.items() <= self.installed().items()

    def install(self) -> None:
        """Run the steps that are not done yet.

        Raises:
            InstallError: if one fails, with the reason and what to do.
        """
        checks.check_python(sys.version_info[:2], sys.platform, self.stack)
        self.check_owner()
        self.venv.mkdir(parents=True, exist_ok=True)
        with locked(self.venv / LOCK_FILE, str(self.venv)):
            if self.is_complete():
                return
            print(f'installing the {self.stack} stack into {self.venv}')
            checks.check_venv_modules()
            if self.installed().get('torch') != self.pins['torch']:
                checks.check_disk(self.venv, NEEDED_GB)
            cache = checks.cache_folder(self.env, self.venv, self.mmcv_key)
            if not list(cache.glob('*.whl')):
                self.check_build()
            self.make_venv()
            self.install_packages()
            with locked(cache / 'lock', f'mmcv in {cache}'):
                self.install_mmcv(cache)
            self.install_project()
            self.note(fingerprint=self.fingerprint)

    def check_owner(self) -> None:
        """Refuse a folder that somebody else made, and one that holds the other stack."""
        state = self.state()
        entries = os.listdir(self.venv) if self.venv.is_dir() else []
        if not state and any(not name.startswith(OWN) for name in entries):
            raise InstallError(
                f'{self.venv} is there and was not made by this installer, which leaves it alone: '
                'name another folder with `make env VENV=...`, or remove it if nobody needs it'
            )
        if state.get('stack', self.stack) != self.stack:
            raise InstallError(
                f'{self.venv} holds the {state["stack"]} stack, and two stacks in one folder break '
                'each other: name another folder with `make env VENV=...`'
            )

    def check_build(self) -> None:
        """Check what compiling mmcv needs, before anything large is downloaded."""
        checks.check_compiler(self.env, Path(sysconfig.get_path('include')))
        if self.device != 'cpu':
            checks.check_nvcc(self.env)

    def make_venv(self) -> None:
        """Make the virtual environment, anew if its Python is another one or gone."""
        self.begin(f'virtual environment of Python {platform.python_version()}')
        config = self.venv / 'pyvenv.cfg'
        text = config.read_text(encoding='utf-8') if config.exists() else ''
        made_by = re.search(r'^version *= *(\d+\.\d+)', text, re.MULTILINE)
        ours = f'{sys.version_info[0]}.{sys.version_info[1]}'
        if made_by and made_by[1] == ours and self.python.exists():
            if self.runner.run([str(self.python), '-m', 'pip', '--version']):
                return
        elif made_by:
            print(f'    the one there is of Python {made_by[1]} or broken: making it anew')
        for entry in self.venv.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif not entry.name.startswith(OWN):
                entry.unlink()
        self.note(stack=self.stack, mmcv='', fingerprint='')
        self.do([sys.executable, '-m', 'venv', str(self.venv)])

    def install_packages(self) -> None:
        """Install all but mmcv, PyTorch first and never altered after."""
        self.begin(f'PyTorch {self.pins["torch"]} (several GB)')
        torch = ('torch', 'torchvision')
        self.pip('install', *(exactly(name, self.pins[name]) for name in torch))
        self.begin('OpenMMLab but for mmcv, and what builds and tests need')
        build = requirement_lines('build')
        pinned = [exactly(name, version) for name, version in self.pins.items()]
        bounds = [line for line in [*build, *self.lines] if '<' in line]
        self.constraints.write_text('\n'.join(pinned + bounds) + '\n', encoding='utf-8')
        apart = {*torch, self.mmcv}
        rest = [line for line in self.lines if re.match(r'[\w-]+', line)[0] not in apart]
        for name in MORE:
            rest += requirement_lines(name)
        self.pip('install', '--constraint', str(self.constraints), *rest)
        if not self.imports('cv2'):
            print('    OpenCV misses display libraries here: taking opencv-python-headless')
            version = self.installed()['opencv-python']
            self.pip('uninstall', '--yes', 'opencv-python', 'opencv-python-headless')
            headless = exactly('opencv-python-headless', version)
            self.pip('install', '--constraint', str(self.constraints), headless)

    def install_mmcv(self, cache: Path) -> None:
        """Install mmcv with its operations compiled for this very torch.

        Args:
            cache: keeps its wheel. pip's own cache does not tell one torch from another.
        """
        self.begin(f'mmcv {self.pins[self.mmcv]} with its compiled operations ({self.device})')
        if self.state().get('mmcv') == self.mmcv_key and self.imports('mmcv.ops'):
            return
        for wheel in cache.glob('*.whl'):
            print(f'    built before: {wheel}')
            if self.install_wheel(wheel):
                return
            print('    it does not work here: building it anew')
            wheel.unlink()
        self.check_build()
        wheel = self.build_mmcv(cache)
        if not self.install_wheel(wheel):
            wheel.unlink()
            raise self.failure()

    def build_mmcv(self, cache: Path) -> Path:
        """Compile mmcv and return its wheel, which appears in ``cache`` only once it is whole."""
        meminfo = Path('/proc/meminfo').read_text()
        jobs = checks.job_count(self.env, len(os.sched_getaffinity(0)), meminfo)
        print(f'    compiling, {jobs} at once; for the CPU it takes about 8 minutes on two cores')
        for left_over in cache.glob('build-*'):
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(prefix='build-', dir=cache) as folder:
            env = {'MMCV_WITH_OPS': '1', 'MAX_JOBS': str(jobs)}
            # PyTorch compiles in parallel only with a ninja it finds.
            env['PATH'] = f'{self.python.parent}{os.pathsep}{self.env.get("PATH", "")}'
            if self.device != 'cpu':
                env['FORCE_CUDA'] = '1'
            flags = ('--verbose', '--no-build-isolation', '--no-deps', '--no-cache-dir')
            requirement = exactly(self.mmcv, self.pins[self.mmcv])
            self.pip('wheel', *flags, '--wheel-dir', folder, requirement, **env)
            built = next(Path(folder).glob('*.whl'))
            return built.replace(cache / built.name)

    def install_wheel(self, wheel: Path) -> bool:
        """Install the mmcv in ``wheel`` and tell whether its operations import."""
        pip = [str(self.python), '-m', 'pip', 'install', '--force-reinstall', '--no-deps']
        works = self.runner.run([*pip, str(wheel)]) and self.imports('mmcv.ops')
        if works:
            self.note(mmcv=self.mmcv_key)
        return works

    def install_project(self) -> None:
        """Install this clone in place, and let it judge the whole environment."""
        self.begin('this project, and a check of the whole')
        flags = ('--no-deps', '--no-build-isolation', '--use-pep517')
        self.pip('install', *flags, '--editable', str(ROOT))
        self.do([str(self.python), '-m', 'dsnet_mm'])

    def begin(self, step: str) -> None:
        """Name the step that starts."""
        self.step = step
        print(f'  {step}', flush=True)

    def imports(self, module: str) -> bool:
        """Tell whether ``module`` can be imported in the environment."""
        return self.runner.run([str(self.python), '-c', f'import {module}'])

    def pip(self, *arguments: str, **env: str) -> None:
        """Run the environment's pip, which obeys the user's own settings."""
        self.do([str(self.python), '-m', 'pip', *arguments], **env)

    def do(self, command: list[str], **env: str) -> None:
        """Run ``command``, or fail with the words for it."""
        if not self.runner.run(command, **env):
            raise self.failure()

    def failure(self) -> InstallError:
        """Show the end of the log, and return the error that says what to do about it."""
        lines = self.runner.output().rstrip().splitlines()
        print(*lines[-15:], sep='\n', file=sys.stderr)
        hint = checks.hint_for('\n'.join(lines[-200:])) or 'mend what the lines above name'
        return InstallError(
            f'failed at "{self.step}" (the whole log is {self.runner.log}): {hint}, then type the '
            'same command again, which goes on from here'
        )


def main() -> None:
    """Read the arguments and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stack', choices=('openmmlab', 'onedl'), default='openmmlab')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder to install into')
    args = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, signal.default_int_handler)
    installer = Installer(args.stack, Path(os.path.abspath(args.venv)), dict(os.environ))
    try:
        installer.install()
    except InstallError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        say = f'error: interrupted at "{installer.step}": the same command goes on from here'
        print(say, file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
