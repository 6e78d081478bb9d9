"""Test the check of the installed stack, the report, and the folder of configs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from dsnet_mm import environment
from dsnet_mm.cli import doctor
from dsnet_mm.environment import UnfitEnvironment, import_problems, version_key, version_problems
from dsnet_mm.errors import UserError
from helpers.paths import ROOT

OFFICIAL = {'torch': '2.12.1', 'mmcv': '2.1.0', 'mmengine': '0.10.7', 'mmdet': '3.3.0'}
ONEDL = {
    'torch': '2.13.0',
    'onedl-mmcv': '2.3.6',
    'onedl-mmengine': '0.10.12',
    'onedl-mmdetection': '3.5.1',
}


@pytest.fixture
def modules(monkeypatch):
    """Pretend that all modules are installed, except those in the returned set."""
    missing = set()
    monkeypatch.setattr(environment, 'find_spec', lambda n: None if n in missing else object())
    return missing


def test_version_key_orders_versions():
    ordered = ['1.9', '2.0.0.dev1', '2.0.0a1', '2.0.0rc4', '2.0.0rc10', '2.0', '2.0.1', '2.10.0']
    keys = [version_key(version) for version in ordered]
    assert keys == sorted(set(keys))
    assert version_key('2.0') == version_key('2.0.0+cpu') == version_key('2')


@pytest.mark.parametrize('installed', [OFFICIAL, ONEDL, {**OFFICIAL, 'mmpretrain': '1.2.0'}])
def test_supported_stacks_have_no_problem(modules, installed):
    assert version_problems(installed) == []


@pytest.mark.parametrize(
    ('change', 'words', 'remedy'),
    [
        ({'mmcv': '2.2.0'}, 'mmcv 2.2.0 is too new', 'mmcv==2.1.0'),
        ({'mmcv': '2.0.0rc3'}, 'mmcv 2.0.0rc3 is too old', 'MMCV_WITH_OPS=1'),
        ({'mmdet': '2.28.2'}, 'mmdet 2.28.2 is too old', 'pip install "mmdet>=3.3,<3.4"'),
        ({'mmengine': '0.7.4'}, 'mmengine 0.7.4 is too old', '"mmengine>=0.10.4,<1"'),
        ({'mmpretrain': '1.0.0'}, 'mmpretrain 1.0.0 is too old', '"mmpretrain>=1.2,<1.3"'),
        ({'torch': '1.13.1+cu117'}, 'torch 1.13.1+cu117 is too old', '"torch>=2.1"'),
        ({'mmcv-lite': '2.1.0'}, 'mmcv-lite lacks', 'pip uninstall -y mmcv-lite &&'),
        ({'mmcv-full': '1.7.2'}, 'mmcv-full belongs', 'pip uninstall -y mmcv-full &&'),
        (
            {'onedl-mmcv': '2.3.6'},
            'packages of OneDL (onedl-mmcv) and OpenMMLab (mmcv, mmdet, mmengine) overwrite',
            'pip uninstall -y onedl-mmcv mmcv mmdet mmengine',
        ),
    ],
)
def test_unsupported_packages_are_reported(modules, change, words, remedy):
    (problem,) = version_problems({**OFFICIAL, **change})
    assert words in problem
    assert remedy in problem
    assert '\n' not in problem


def test_onedl_has_its_own_bounds(modules):
    (problem,) = version_problems({**ONEDL, 'onedl-mmdetection': '3.6.0'})
    assert problem.startswith('onedl-mmdetection 3.6.0 is too new, it must be below 3.6')
    (problem,) = version_problems({**ONEDL, 'onedl-mmcv': '2.4.0'})
    assert problem.endswith('onedl-mmcv==2.3.6`')


def test_a_missing_package_is_reported_unless_it_is_on_the_path(modules):
    without = {name: version for name, version in OFFICIAL.items() if name != 'mmdet'}
    assert version_problems(without) == []
    modules.add('mmdet')
    (problem,) = version_problems(without)
    assert problem.startswith('mmdet is not installed: run `pip install')
    modules.add('mmpretrain')
    assert version_problems(without) == [problem]  # only classifiers need mmpretrain


def test_official_mmengine_needs_pkg_resources(modules):
    modules.add('pkg_resources')
    (problem,) = version_problems(OFFICIAL)
    assert problem.startswith('mmengine needs pkg_resources')
    assert problem.endswith('`pip install "setuptools<81"`')
    assert version_problems(ONEDL) == []


@pytest.mark.parametrize(
    ('broken', 'remedy'),
    [
        ('torch', 'pip install --force-reinstall --no-deps torch==2.12.1'),
        ('torchvision', '"torchvision==0.27.*"'),
        ('cv2', 'pip install opencv-python-headless'),
        ('mmcv.ops', 'mmcv==2.1.0'),
    ],
)
def test_a_broken_binary_is_reported_with_the_remedy(modules, monkeypatch, broken, remedy):
    def import_module(name):
        if name == broken:
            raise OSError('undefined symbol: _ZN3c10\nmore lines')

    monkeypatch.setattr(environment.importlib, 'import_module', import_module)
    (problem,) = import_problems(OFFICIAL)
    assert problem.startswith(f'{broken} cannot be imported with torch 2.12.1 (undefined symbol')
    assert remedy in problem
    assert '\n' not in problem
    modules.add(broken.partition('.')[0])
    assert import_problems(OFFICIAL) == []


def test_a_failed_import_reports_the_first_problem(monkeypatch):
    def import_module(name):
        raise AssertionError('MMCV==2.2.0 is used but incompatible')

    monkeypatch.setattr(environment.importlib, 'import_module', import_module)
    monkeypatch.setattr(environment, 'problems', lambda: ['this is wrong', 'that too'])
    with pytest.raises(UnfitEnvironment, match='^this is wrong .*dsnet-mm doctor') as caught:
        environment.register_modules()
    assert isinstance(caught.value, UserError)
    # mmengine would hide the message of an ImportError in custom_imports.
    assert not isinstance(caught.value, ImportError)
    monkeypatch.setattr(environment, 'problems', list)
    with pytest.raises(AssertionError, match='MMCV'):  # other errors pass unchanged
        environment.register_modules()


def test_unsupported_versions_that_import_are_accepted(monkeypatch):
    monkeypatch.setattr(environment, 'problems', lambda: ['mmdet 3.4.0 is too new'])
    environment.register_modules()


def test_locked_versions_are_within_the_bounds(modules):
    for stack in environment.STACKS:
        lines = (ROOT / 'requirements' / f'{stack}.lock').read_text().splitlines()
        pins = dict(re.split('===?', line) for line in lines if ';' not in line)
        assert version_problems(pins) == []
        assert {p.distribution for p in environment.STACKS[stack]} <= set(pins)
        for name, version in environment.TRIED_MMCV.items():
            assert pins.get(name, version) == version


@pytest.mark.slow
def test_this_environment_is_supported():
    assert environment.problems() == []
    result = _python('-m', 'dsnet_mm', 'doctor')
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'no problems' in result.stdout
    assert re.search('^device: ', result.stdout, re.M)
    assert re.search('^mmcv operators: compiled for', result.stdout, re.M)


@pytest.mark.parametrize('broken', ['', 'torch', 'mmcv.ops'])
def test_devices_and_operators_are_reported_despite_problems(monkeypatch, capsys, broken):
    real = doctor.importlib.import_module

    def import_module(name):
        if name == broken:
            raise OSError('undefined symbol: _ZN3c10\nmore lines')
        return real(name)

    monkeypatch.setattr(doctor.importlib, 'import_module', import_module)
    monkeypatch.setattr(doctor, 'problems', lambda: ['this is wrong'])
    assert doctor.report(OFFICIAL) == ['this is wrong']
    printed = capsys.readouterr().out
    unknown = 'unknown (undefined symbol: _ZN3c10 more lines)\n'
    assert (f'device: {unknown}' in printed) == (broken == 'torch')
    assert bool(re.search(r'^device: CPU, \d+ threads$', printed, re.M)) == (broken != 'torch')
    assert (f'mmcv operators: {unknown}' in printed) == (broken == 'mmcv.ops')
    operators = re.search(r'^mmcv operators: compiled for .*C.* with \S+', printed, re.M)
    assert bool(operators) == (broken != 'mmcv.ops')


def test_report_without_any_package():
    result = _python('-S', '-m', 'dsnet_mm', 'doctor')
    assert result.returncode == 1
    assert result.stderr == ''
    assert 'torch is not installed' in result.stdout
    assert "device: unknown (No module named 'torch')" in result.stdout
    assert re.search('^problem: torch is not installed: run `', result.stdout, re.MULTILINE)


def test_import_without_any_package():
    result = _python('-S', '-c', 'import dsnet_mm')
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith('dsnet_mm.environment.UnfitEnvironment: torch is not installed: run `')


@pytest.mark.parametrize(
    ('argv', 'orig_argv', 'expected'),
    [
        (['-m'], ['python', '-m', 'dsnet_mm'], True),
        (['-m'], ['python', '-s', '-m', 'dsnet_mm', 'train'], True),
        (['-m'], ['python', '-m', 'pytest', 'dsnet_mm'], False),
        (['train.py'], ['python', 'train.py', '-m', 'dsnet_mm'], False),
        (['/usr/bin/dsnet-mm', 'train'], ['python', '/usr/bin/dsnet-mm', 'train'], True),
        ([], ['python'], False),
    ],
)
def test_only_the_command_registers_later(monkeypatch, argv, orig_argv, expected):
    monkeypatch.setattr(sys, 'argv', argv)
    monkeypatch.setattr(sys, 'orig_argv', orig_argv)
    assert environment.runs_own_command() is expected


def test_configs_are_found_in_a_clone_and_in_a_wheel(monkeypatch, tmp_path):
    package = tmp_path / 'dsnet_mm'
    (tmp_path / 'configs').mkdir()
    monkeypatch.setattr(environment, '__file__', str(package / 'environment.py'))
    # A folder `configs` next to an installed package belongs to another project.
    with pytest.raises(UnfitEnvironment, match=re.escape(str(package))):
        environment.configs_dir()
    (tmp_path / 'setup.py').touch()
    assert environment.configs_dir() == tmp_path / 'configs'
    (package / '.mim' / 'configs').mkdir(parents=True)
    assert environment.configs_dir() == package / '.mim' / 'configs'


def _python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [shutil.which(sys.executable), *arguments], cwd=ROOT, capture_output=True, text=True
    )
