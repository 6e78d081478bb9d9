"""Every command of every page stands here, with the test that runs it; and links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
from conftest import ROOT

from dsnet_mm.cli import parse

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]

# What a command begins with, and what runs it as the page has it, or in small, or shows its plan.
# The longest beginning that fits counts.
# These install gigabytes or run for hours: .ci/run and .ci/fresh run them, or a person does.
MAKE = 'test_documentation.py::test_make_help_lists_every_command'
RUN_BY = {
    'cd checkpoints && sha256sum -c': 'test_weights_docs.py::test_commands_and_configs',
    'make bench': MAKE,
    'make compare': MAKE,
    'make demo': 'test_tools.py::test_demo',
    'make env': MAKE,
    'make full': MAKE,
    'make help': 'test_documentation.py::test_make_help_lists_every_command',
    'make lint': MAKE,
    'make lock': MAKE,
    'make quick': MAKE,
    'make test': MAKE,
    'make test-models': MAKE,
    'pip install .': 'test_installed.py::test_a_config_with_nothing_but_the_backbone',
    'pip install ".[export]"': (
        'test_installed.py::test_installing_the_wheel_brings_no_torch_but_for_extras'
    ),
    'pip install tensorboard': 'test_plot_log.py::test_documented_settings_of_tensorboard',
    'python -c "import dsnet_mm; print(dsnet_mm.configs_dir())"': (
        'test_readme.py::test_inline_commands'
    ),
    'dsnet-mm doctor': 'test_readme.py::test_inline_commands',
    'python -m pytest tests/test_golden.py': 'test_weights_docs.py::test_commands_and_configs',
    'dsnet-mm benchmark': 'test_benchmark.py::test_tool',
    'dsnet-mm check-data': 'test_own_data.py::test_convert_and_check',
    'dsnet-mm compare': 'test_compare.py::test_what_the_docs_tell_to_type',
    'dsnet-mm convert-data': 'test_own_data.py::test_convert_and_check',
    'dsnet-mm export': 'test_export.py::test_the_documented_commands',
    'dsnet-mm weights': 'test_weights_docs.py::test_commands_and_configs',
    'dsnet-mm shapes': 'test_pretrain.py::test_commands',
    'dsnet-mm info': ('test_model_info.py::test_documentation_shows_what_the_tool_makes'),
    'dsnet-mm predict': 'test_own_data.py::test_detect',
    'dsnet-mm streams': 'test_streams.py::test_the_tool',
    'dsnet-mm test configs/finetune': 'test_own_data.py::test_train_and_test',
    'dsnet-mm test configs/pretrain': 'test_pretrain.py::test_commands',
    'dsnet-mm test configs/retinanet': 'test_readme.py::test_commands',
    'dsnet-mm train configs/finetune': 'test_own_data.py::test_train_and_test',
    'dsnet-mm train configs/pretrain': 'test_pretrain.py::test_commands',
    'dsnet-mm train configs/retinanet': 'test_readme.py::test_commands',
    'source .venv/bin/activate': MAKE,
    'tools/dist_test.sh': 'test_distributed.py::test_two_processes_evaluate_every_image_once',
    'tools/dist_train.sh': (
        'test_distributed.py::test_two_processes_train_as_one_on_the_doubled_batch'
    ),
    'tools/slurm_train.sh': 'test_distributed.py::test_scripts_of_clusters_start',
    'torchrun': 'test_pretrain.py::test_commands',
}


def commands() -> list[tuple[str, str]]:
    """Each page's name and command: the lines of its bash blocks, and those within the text."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        blocks = re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines() if line.strip()]
        text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
        # within the text, a subcommand alone is a name, with arguments it is a command
        with_arguments = r'(?:dsnet-mm [\w-]+|python|make|pip|torchrun|tools/\S+\.sh)\s[^`]+'
        inline = re.findall(rf'`(dsnet-mm doctor|{with_arguments})`', text)
        found += [(page.name, ' '.join(command.split())) for command in lines + inline]
    return found


def beginning(command: str) -> str | None:
    return max((key for key in RUN_BY if command.startswith(key)), key=len, default=None)


@pytest.mark.parametrize(('page', 'command'), commands())
def test_every_command_has_a_test(page, command):
    assert beginning(command), f'{page}: {command}'


@pytest.mark.parametrize(
    'command', sorted({typed for _, typed in commands() if typed.startswith('dsnet-mm ')})
)
def test_documented_options_exist(command):
    """All of them, since the test that runs a command may use other options."""
    _, name, *arguments = shlex.split(command)
    if '--help' in [name, *arguments]:
        return
    parse(name, arguments)
    for argument in arguments:
        assert not argument.startswith('configs/') or (ROOT / argument).exists(), argument


def test_nothing_here_is_out_of_date():
    assert {beginning(command) for _, command in commands()} == set(RUN_BY)
    for place in RUN_BY.values():
        file, name = place.split('::')
        source = (ROOT / 'tests' / file).read_text(encoding='utf-8')
        assert re.search(rf'^def {name}\(', source, re.MULTILINE), place


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
