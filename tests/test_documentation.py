"""Every command of every page stands here, with the test that runs it; and links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

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
    'pip install tensorboard': 'test_own_data.py::test_documented_settings_of_tensorboard',
    'python -c "import dsnet_mm; print(dsnet_mm.configs_dir())"': (
        'test_readme.py::test_inline_commands'
    ),
    'python -m dsnet_mm': 'test_readme.py::test_inline_commands',
    'python -m pytest tests/test_golden.py': 'test_weights_docs.py::test_commands_and_configs',
    'python tools/benchmark.py': 'test_benchmark.py::test_tool',
    'python tools/check_data.py': 'test_own_data.py::test_convert_and_check',
    'python tools/compare.py': 'test_compare.py::test_what_the_docs_tell_to_type',
    'python tools/convert_data.py': 'test_own_data.py::test_convert_and_check',
    'python tools/convert_weights.py': 'test_weights_docs.py::test_commands_and_configs',
    'python tools/export.py': 'test_export.py::test_the_documented_commands',
    'python tools/get_weights.py': 'test_weights_docs.py::test_commands_and_configs',
    'python tools/make_shapes.py': 'test_pretrain.py::test_commands',
    'python tools/model_info.py': (
        'test_model_info.py::test_documentation_shows_what_the_tool_makes'
    ),
    'python tools/predict.py': 'test_own_data.py::test_detect',
    'python tools/show_streams.py': 'test_streams.py::test_the_tool',
    'python tools/test.py configs/finetune': 'test_own_data.py::test_train_and_test',
    'python tools/test.py configs/pretrain': 'test_pretrain.py::test_commands',
    'python tools/test.py configs/retinanet': 'test_readme.py::test_commands',
    'python tools/train.py configs/finetune': 'test_own_data.py::test_train_and_test',
    'python tools/train.py configs/pretrain': 'test_pretrain.py::test_commands',
    'python tools/train.py configs/retinanet': 'test_readme.py::test_commands',
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
        # within the text, a tool alone is a name, a tool with arguments a command
        inline = re.findall(r'`((?:python|make|pip|torchrun|tools/\S+\.sh)\s[^`]+)`', text)
        found += [(page.name, ' '.join(command.split())) for command in lines + inline]
    return found


def beginning(command: str) -> str | None:
    return max((key for key in RUN_BY if command.startswith(key)), key=len, default=None)


@pytest.mark.parametrize(('page', 'command'), commands())
def test_every_command_has_a_test(page, command):
    assert beginning(command), f'{page}: {command}'


@pytest.mark.parametrize(
    'command', sorted({typed for _, typed in commands() if typed.startswith('python tools/')})
)
def test_tools_take_the_options_that_are_told(command, monkeypatch):
    """All of them, since what runs a command may do so with others."""
    _, script, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    parse_args = runpy.run_path(str(ROOT / script))['parse_args']
    if arguments == ['--help']:
        with pytest.raises(SystemExit, match='0'):
            parse_args()
    else:
        parse_args()
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
