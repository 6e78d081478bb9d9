"""Test the command `dsnet-mm` itself; other files test the subcommands."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys

import pytest

from dsnet_mm.cli import COMMANDS, load, main, parse
from dsnet_mm.cli.options import read_settings
from dsnet_mm.comparison.suites import SUITES
from dsnet_mm.data.converting.dataset_conversion import FORMATS
from dsnet_mm.deploy import loading
from dsnet_mm.errors import UserError
from dsnet_mm.weights.published_files import ARCHS
from helpers.commands import dsnet_mm_ends
from helpers.paths import ROOT

HEAVY = ('torch', 'mmengine', 'mmcv', 'mmdet', 'cv2', 'matplotlib')


def imported_by(code: str, first: str = '') -> set[str]:
    """Return the packages that a process imports by ``code``, without those of ``first``."""
    program = f"""
import sys
sys.argv = ["dsnet-mm"]
{first}
before = {{name.partition(".")[0] for name in sys.modules}}
{code}
print(*{{name.partition(".")[0] for name in sys.modules}} - before)"""
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_needs_no_heavy_import():
    assert not imported_by('import dsnet_mm.cli; dsnet_mm.cli.overview()') & set(HEAVY)


def test_predict_needs_no_package_that_mmdet_does_not_import():
    code = """
import dsnet_mm
dsnet_mm.register_modules()
import dsnet_mm.data.pictures, dsnet_mm.data.predictions, dsnet_mm.engine.predict"""
    assert imported_by(code, first='import mmdet.apis, mmdet.models') == {'dsnet_mm'}


@pytest.mark.parametrize('name', COMMANDS)
def test_subcommands_import_heavy_packages_only_when_they_run(name):
    tree = ast.parse((ROOT / load(name).__file__).read_text(encoding='utf-8'))
    names = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    allowed = {'dsnet_mm.errors', 'dsnet_mm.environment', 'dsnet_mm.version', 'options'}
    assert {n for n in names if n.split('.')[0] not in sys.stdlib_module_names} <= allowed


@pytest.mark.parametrize('words', [[], ['--help'], ['-h'], ['help']])
def test_help_lists_every_command(words, capsys):
    assert dsnet_mm_ends(*words or ['--help']) == 0
    printed = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert f'  {name} ' in printed
        assert text in printed


def test_no_arguments_print_the_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['dsnet-mm'])
    with pytest.raises(SystemExit, match='0'):
        main()
    assert 'usage: dsnet-mm COMMAND' in capsys.readouterr().out


@pytest.mark.parametrize('name', COMMANDS)
def test_every_subcommand_has_help(name, capsys):
    assert dsnet_mm_ends(name, '--help') == 0
    assert f'usage: dsnet-mm {name} ' in capsys.readouterr().out


def test_an_unknown_command_is_reported_with_the_closest_one(capsys):
    assert dsnet_mm_ends('benchmrk') == 2
    assert 'no command benchmrk; did you mean `dsnet-mm benchmark`?' in capsys.readouterr().err
    assert dsnet_mm_ends('xyz') == 2
    assert 'run `dsnet-mm --help`' in capsys.readouterr().err


def test_version(capsys):
    from dsnet_mm import __version__

    assert dsnet_mm_ends('--version') == 0
    assert capsys.readouterr().out == f'dsnet-mm {__version__}\n'


def test_settings_repeat_and_keep_their_types():
    first, second = ['a.b=1', 'c=[1,2]'], ['d=(3,x)', 'e=True', 'f=epoch_{}.pth']
    typed = parse('train', ['x.py', '--cfg-options', *first, '--cfg-options', *second]).cfg_options
    assert typed == first + second
    values = {'a.b': 1, 'c': [1, 2], 'd': (3, 'x'), 'e': True, 'f': 'epoch_{}.pth'}
    assert read_settings(typed) == values
    assert read_settings(None) is None
    with pytest.raises(UserError, match=r'--cfg-options a=\[\(1,2 cannot be parsed'):
        read_settings(['a=[(1,2'])


@pytest.mark.parametrize(
    ('name', 'destination', 'values'),
    [
        ('export', 'what', loading.PARTS),
        ('compare', 'suite', SUITES),
        ('weights', 'arch', ARCHS),
        ('convert-data', 'format', [*FORMATS, 'coco']),
    ],
)
def test_choices_are_those_of_the_code(name, destination, values):
    """Subcommands repeat the choices, because importing them would import PyTorch."""
    parser = argparse.ArgumentParser()
    load(name).add_arguments(parser)
    (choices,) = (action.choices for action in parser._actions if action.dest == destination)
    assert tuple(choices) == tuple(values)


def test_options_between_positional_arguments():
    args = parse('test', ['config.py', '--fuse', 'checkpoint.pth'])
    assert (args.model, args.checkpoint, args.fuse) == ('config.py', 'checkpoint.pth', True)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_scripts_of_a_clone_run_the_subcommands(name):
    done = subprocess.run(
        [sys.executable, f'tools/{name}.py', '--help'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f'usage: dsnet-mm {name} ')
