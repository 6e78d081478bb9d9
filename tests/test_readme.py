"""What the README tells to type is typed by a test, and what it says of defaults is so."""

import inspect
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

from dsnet_mm.models import DSNet

README = (ROOT / 'README.md').read_text(encoding='utf-8')
SMALL = (
    'model.backbone.init_cfg=None model.backbone.norm_eval=False train_cfg.max_epochs=1 '
    'train_dataloader.dataset.pipeline.2.scale=(96,96) '
    'val_dataloader.dataset.pipeline.1.scale=(96,96) '
    'val_dataloader.dataset.metainfo.classes=circle,square,star,triangle '
    'test_dataloader.dataset.pipeline.1.scale=(96,96) '
    'train_dataloader.dataset.metainfo.classes=circle,square,star,triangle '
    'test_dataloader.dataset.metainfo.classes=circle,square,star,triangle'
).split()
# Commands that other tests, or the continuous integration, run.
ELSEWHERE = {
    'make demo': 'test_tools.py::test_demo',
    'make test': '../.ci/run::make test',
    'source .venv/bin/activate': 'test_install.py::test_fresh_install_runs_the_steps_in_order',
    'python tools/get_weights.py small': 'test_weights_docs.py::test_commands_and_configs',
    'pip install .': 'test_installed.py::def installed',
    'python tools/convert_data.py voc data/own data/own/annotations --val 0.2': (
        'test_own_data.py::def test_convert_and_check'
    ),
    'python tools/check_data.py data/own/annotations/train.json data/own --config '
    'configs/finetune/retinanet_dsnet_s_finetune.py --draw work_dirs/own_pictures': (
        'test_own_data.py::def test_convert_and_check'
    ),
    'python tools/train.py configs/finetune/retinanet_dsnet_s_finetune.py': (
        'test_own_data.py::def test_train_and_test'
    ),
    'python tools/predict.py configs/finetune/retinanet_dsnet_s_finetune.py '
    'work_dirs/retinanet_dsnet_s_finetune/epoch_8.pth data/own --out work_dirs/own_predictions': (
        'test_own_data.py::def test_detect'
    ),
}


def commands() -> list[str]:
    blocks = re.findall(r'```bash\n(.*?)```', README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run(*command: str, cwd=ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_make_commands_do_what_is_said():
    plan = subprocess.run(['make', '--dry-run', 'demo'], cwd=ROOT, capture_output=True, text=True,
                          check=True).stdout  # fmt: skip
    assert 'tools/install.py' in plan
    assert 'tools/demo.py' in plan


@pytest.mark.slow
def test_commands(shapes_root, tmp_path):
    """Run the commands one after the other, on few and small images."""
    typed = 0
    for command in commands():
        if command in ELSEWHERE:
            file, name = ELSEWHERE[command].split('::')
            assert name in (ROOT / 'tests' / file).read_text(encoding='utf-8'), command
            if file == 'test_own_data.py':  # which runs the commands of that page
                page = (ROOT / 'docs' / 'own_data.md').read_text(encoding='utf-8')
                assert command in page.splitlines()
            continue
        python, *arguments = shlex.split(command)
        assert python == 'python', command
        arguments = [
            argument.replace('work_dirs', str(tmp_path))
            .replace('data/coco', str(shapes_root))
            .replace('epoch_12', 'epoch_1')
            for argument in arguments
        ]
        work_dir = tmp_path / 'retinanet_dsnet_s_fpn_1x_coco'
        run(*arguments, '--work-dir', str(work_dir), '--cfg-options', *SMALL)
        typed += 1
    assert typed == 2


@pytest.mark.slow
def test_inline_commands():
    inline = re.findall(r'`(python -[^`]+)`', README)
    assert len(inline) == 2
    report, configs = (run(*shlex.split(command)[1:]) for command in inline)
    assert 'mmdet' in report
    assert str(ROOT / 'configs') in configs


def test_table_of_configs():
    names = re.findall(r'`((?:retinanet|mask_rcnn)_\w+)`', README)
    assert names
    for name in names:
        assert (ROOT / 'configs' / f'{name}_1x_coco.py').exists(), name


def test_table_of_arguments():
    defaults = {k: v.default for k, v in inspect.signature(DSNet).parameters.items()}
    table = README.split('| `DSNet` |')[1].split('\n\n')[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith('|')]
    assert len(rows) > 6
    for row in rows:
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        names = re.findall(r'`(\w+)`', cells[0])
        values = [eval(value) for value in re.findall(r'`(.+?)`', cells[-1])]
        assert {name: defaults[name] for name in names} == dict(zip(names, values, strict=True))
