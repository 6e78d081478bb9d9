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
from conftest import ROOT

from dsnet_mm.cli import parse
from dsnet_mm.version import __version__

PAGES = [
    *(ROOT / f'{name}.md' for name in ('README', 'CONTRIBUTING', 'CHANGELOG', 'SECURITY')),
    *sorted((ROOT / 'docs').glob('*.md')),
]

# What a command begins with, and the test that runs it as the page has it, or in small, or shows
# its plan. The longest beginning that fits counts. A person runs the commands of BY_HAND.
BY_HAND = None
# These install gigabytes or run for hours: .ci/run and .ci/fresh run them, or a person.
MAKE = 'test_documentation.py::test_make_help_lists_every_command'
RUN_BY = {
    '.venv/bin/python -m pytest tests': BY_HAND,
    'MMDET=': 'test_own_data.py::test_mmdet_plots_logs',
    'dsnet-mm benchmark': 'test_benchmark.py::test_command',
    'dsnet-mm check-data': 'test_own_data.py::test_convert_and_check',
    'dsnet-mm compare': 'test_compare.py::test_what_the_docs_tell_to_type',
    'dsnet-mm convert-data': 'test_own_data.py::test_convert_and_check',
    'dsnet-mm demo': 'test_tools.py::test_demo',
    'dsnet-mm doctor': 'test_readme.py::test_doctor',
    'dsnet-mm export': 'test_export.py::test_the_documented_commands',
    'dsnet-mm info': 'test_model_info.py::test_documentation_shows_what_the_tool_makes',
    'dsnet-mm predict': 'test_own_data.py::test_detect',
    'dsnet-mm shapes': 'test_pretrain.py::test_commands',
    'dsnet-mm streams': 'test_streams.py::test_the_command',
    'dsnet-mm test': 'test_own_data.py::test_train_and_test',
    'dsnet-mm test configs/pretrain': 'test_pretrain.py::test_commands',
    'dsnet-mm test configs/retinanet': 'test_readme.py::test_commands',
    'dsnet-mm train': 'test_own_data.py::test_train_and_test',
    'dsnet-mm train configs/memorize': 'test_memorize.py::test_train',
    'dsnet-mm train configs/pretrain': 'test_pretrain.py::test_commands',
    'dsnet-mm train configs/retinanet': 'test_readme.py::test_commands',
    'dsnet-mm weights': 'test_weights_docs.py::test_commands_and_configs',
    'make bench': MAKE,
    'make compare': MAKE,
    'make demo': 'test_tools.py::test_demo',
    'make env': MAKE,
    'make full': MAKE,
    'make help': MAKE,
    'make lint': MAKE,
    'make lock': MAKE,
    'make quick': MAKE,
    'make test': MAKE,
    'make test-models': MAKE,
    'pip install "setuptools<81"': (
        'test_environment.py::test_official_mmengine_needs_pkg_resources'
    ),
    'pip install .': 'test_installed.py::test_a_config_with_nothing_but_the_backbone',
    'pip install ".[export]"': (
        'test_installed.py::test_installing_the_wheel_brings_no_torch_but_for_extras'
    ),
    'pip install pre-commit': BY_HAND,
    'pip install seaborn': 'test_own_data.py::test_mmdet_plots_logs',
    'pip install tensorboard': 'test_own_data.py::test_documented_settings_of_tensorboard',
    'python $MMDET/.mim/tools/analysis_tools': 'test_own_data.py::test_mmdet_plots_logs',
    'python -c "import dsnet_mm; print(dsnet_mm.configs_dir())"': (
        'test_readme.py::test_the_folder_of_the_configs'
    ),
    'python -m pytest tests -k golden': 'test_weights_docs.py::test_commands_and_configs',
    'python docs/draw_block.py': 'test_documentation.py::test_the_diagram_is_up_to_date',
    'source .venv/bin/activate': BY_HAND,
    'tools/dist_test.sh': 'test_distributed.py::test_two_processes_evaluate_every_image_once',
    'tools/dist_train.sh': (
        'test_distributed.py::test_two_processes_train_as_one_on_the_doubled_batch'
    ),
    'tools/slurm_train.sh': 'test_distributed.py::test_scripts_of_clusters_start',
    'torchrun': 'test_pretrain.py::test_commands',
}


def commands() -> list[tuple[str, str, bool]]:
    """Return each page's name, command, and whether the command is complete, in a bash block."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        blocks = re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines() if line.strip()]
        text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
        # within the text, a program alone is a name, a program with arguments a command
        inline = re.findall(r'`((?:dsnet-mm|make|pip|python|torchrun|tools/\S+\.sh)\s[^`]+)`', text)
        found += [(page.name, ' '.join(line.split()), True) for line in lines]
        found += [(page.name, ' '.join(command.split()), False) for command in inline]
    return found


def beginning(command: str) -> str | None:
    return max((key for key in RUN_BY if command.startswith(key)), key=len, default=None)


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
    (path,) = (ROOT / 'tests').rglob(file.removeprefix('tests/'))
    source = path.read_text(encoding='utf-8')
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


def test_the_diagram_is_up_to_date():
    drawing = runpy.run_path(str(ROOT / 'docs' / 'draw_block.py'))
    assert drawing['TARGET'].read_text(encoding='utf-8') == drawing['draw']()


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
