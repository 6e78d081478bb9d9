"""Commands of every page exist and have a test; links and named tests exist."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import runpy
import shlex
import subprocess

import pytest
import yaml

from dsnet_mm.cli import parse
from dsnet_mm.version import __version__
from helpers.documented_commands import RUN_BY, beginning
from helpers.documents import command_lines
from helpers.paths import ROOT

PAGES = [
    *(ROOT / f'{name}.md' for name in ('README', 'CONTRIBUTING', 'CHANGELOG', 'SECURITY')),
    *sorted((ROOT / 'docs').glob('*.md')),
]


def commands() -> list[tuple[str, str, bool]]:
    """Return each page's name, command, and whether the command is complete, in a bash block."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        lines = command_lines(text)
        text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
        # within the text, a program alone is a name, a program with arguments a command
        inline = re.findall(r'`((?:dsnet-mm|make|pip|python|torchrun|tools/\S+\.sh)\s[^`]+)`', text)
        found += [(page.name, ' '.join(line.split()), True) for line in lines]
        found += [(page.name, ' '.join(command.split()), False) for command in inline]
    return found


@pytest.mark.parametrize(('page', 'command'), [found[:2] for found in commands()])
def test_every_command_has_a_test(page, command):
    assert beginning(command), f'{page}: {command}'


@functools.cache
def help_of(subcommand: str) -> str:
    """Return what ``dsnet-mm SUBCOMMAND --help`` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit, match='^0$'):
        parse(subcommand, ['--help'])
    return printed.getvalue()


@pytest.mark.parametrize(
    ('command', 'complete'),
    sorted({found[1:] for found in commands() if found[1].startswith('dsnet-mm ')}),
)
def test_arguments_are_those_of_the_subcommand(command, complete):
    """All of them, since the test that runs a command may use other options."""
    _, subcommand, *arguments = shlex.split(command)
    if complete:
        parse(subcommand, arguments)
    for argument in arguments:
        assert not argument.startswith('--') or argument in help_of(subcommand), argument
        assert not argument.startswith('configs/') or (ROOT / argument).exists(), argument


def test_nothing_here_is_out_of_date():
    assert {beginning(command) for _, command, _ in commands()} == set(RUN_BY)
    for place in filter(None, RUN_BY.values()):
        assert_test_exists(*place.split('::'))


def assert_test_exists(file: str, name: str = '') -> None:
    source = (ROOT / 'tests' / file.removeprefix('tests/')).read_text(encoding='utf-8')
    assert not name or re.search(rf'^def {name}\(', source, re.MULTILINE), f'{file}::{name}'


def test_tests_that_the_pages_name_exist():
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        for file, name in re.findall(r'`(tests/[\w/]+\.py)(?:::(\w+))?`', text):
            assert_test_exists(file, name)


def test_make_help_lists_every_command():
    targets = re.search(r'^\.PHONY: (.*)', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1].split()
    command = ['make', 'help']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    shown = re.findall(r'^  ([\w-]+)\t', done.stdout, re.MULTILINE)
    assert sorted(shown) == sorted(targets)


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r'\]\((?!https?://)([^)#]+)', page.read_text(encoding='utf-8')):
            assert (page.parent / link).exists(), f'{page.name}: {link}'


def test_the_site_has_every_page():
    """``make lint`` builds the site, and mkdocs accepts pages that no menu shows."""
    nav = str(yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav'])
    from_root = {'index.md', 'changelog.md', 'contributing.md', 'security.md'}
    in_docs = {path.name for path in (ROOT / 'docs').glob('*.md')}
    assert set(re.findall(r'\w+\.md', nav)) == in_docs | from_root


def test_the_diagrams_are_up_to_date():
    drawing = runpy.run_path(str(ROOT / 'docs' / 'draw_block.py'))
    assert set(drawing['PICTURES']) == {path.name for path in drawing['FOLDER'].glob('*.svg')}
    for name, draw in drawing['PICTURES'].items():
        assert (drawing['FOLDER'] / name).read_text(encoding='utf-8') == draw()


def test_what_is_not_measured_is_said_once():
    """In the status table of the README, and on no other page."""
    for page in PAGES:
        for line in page.read_text(encoding='utf-8').splitlines():
            if 'not measured' in line.lower():
                assert (page.name, line[:2]) == ('README.md', '| '), f'{page.name}: {line}'


def test_versions_agree():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    newest = re.search(r'^## \[(.+)\] - (\S+)$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert (citation['version'], str(citation['date-released'])) == newest.groups()
    assert citation['version'] == __version__
