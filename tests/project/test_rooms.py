"""Rooms of the package import downwards only, as docs/design.md lists them; tests mirror rooms."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from helpers.documents import read
from helpers.paths import ROOT

PACKAGE = ROOT / 'dsnet_mm'
TESTS = ROOT / 'tests'


def rooms() -> dict[str, int]:
    """Return the height of each room by the table in docs/design.md, the lowest first."""
    table = read('docs/design.md').split('| room | job |')[1].split('\n\n')[0]
    rows = [row.split('|')[1] for row in table.splitlines()[2:]]
    return {name: i for i, row in enumerate(rows) for name in re.findall(r'`(\w+)`', row)}


def imports(file: Path) -> Iterator[str]:
    """Yield the rooms that a file imports, inside of functions too."""
    folders = file.relative_to(PACKAGE.parent).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = '.'.join(folders[: len(folders) - node.level + 1]) if node.level else ''
            modules = [f'{above}.{node.module or node.names[0].name}'.strip('.')]
        for module in modules:
            package, _, rest = module.partition('.')
            if package == 'dsnet_mm' and rest:
                yield rest.partition('.')[0]


def test_every_room_is_listed():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix in ('', '.py')}
    assert set(rooms()) == found - {'__init__', '__main__', '__pycache__', 'version', 'py', '.mim'}


def test_imports_run_downwards():
    heights = rooms()
    files = [file for file in PACKAGE.rglob('*.py') if file.stem not in ('__init__', '__main__')]
    upwards = {
        (str(file.relative_to(PACKAGE)), room)
        for file in files
        for room in imports(file)
        if heights.get(room, -1) > heights.get(file.relative_to(PACKAGE).parts[0].split('.')[0], -1)
    }
    assert upwards == set()
    assert any('models' in imports(file) for file in files if 'weights' in file.parts)


def test_every_folder_of_tests_is_a_room():
    for path in TESTS.iterdir():
        if path.is_dir() and path.name not in ('helpers', 'recorded', 'project', '__pycache__'):
            assert (PACKAGE / path.name).is_dir(), f'tests/{path.name}'
    for path in TESTS.glob('test_*.py'):
        assert (PACKAGE / path.name.removeprefix('test_')).exists(), f'tests/{path.name}'


def test_test_files_import_no_test_files():
    """They share code in tests/helpers."""
    for file in TESTS.rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, 'module', None) or '', *(alias.name for alias in node.names)]
                parts = '.'.join(names).split('.')
                wrong = [part for part in parts if re.fullmatch(r'conftest|tests|test_\w+', part)]
                assert not wrong, f'{file.relative_to(ROOT)} imports {wrong[0]}'
