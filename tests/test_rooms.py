"""The rooms of the package import downwards only, as docs/design.md lists them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / 'dsnet_mm'


def rooms() -> dict[str, int]:
    """Return the height of each room by the table in docs/design.md, the lowest first."""
    text = (ROOT / 'docs' / 'design.md').read_text(encoding='utf-8')
    table = text.split('| room | job |')[1].split('\n\n')[0]
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
