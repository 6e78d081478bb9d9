"""What the README tells to type is typed by a test, and what it says of defaults is so."""

import inspect
import re
import shlex

import pytest
from conftest import ROOT, run_command, run_process
from test_documentation import RUN_BY, beginning

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


def commands() -> list[str]:
    blocks = re.findall(r'```bash\n(.*?)```', README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.slow
def test_commands(shapes_root, tmp_path):
    """Run the commands one after the other, on few and small images."""
    typed = 0
    own_data = (ROOT / 'docs' / 'own_data.md').read_text(encoding='utf-8').splitlines()
    for command in commands():
        file, name = RUN_BY[beginning(command)].split('::')
        if file == 'test_own_data.py':  # which runs the commands of that page
            assert command in own_data
        if (file, name) != ('test_readme.py', 'test_commands'):
            continue
        program, *arguments = shlex.split(command)
        assert program == 'dsnet-mm', command
        arguments = [
            argument.replace('work_dirs', str(tmp_path))
            .replace('data/coco', str(shapes_root))
            .replace('epoch_12', 'epoch_1')
            for argument in arguments
        ]
        work_dir = tmp_path / 'retinanet_dsnet_s_fpn_1x_coco'
        options = ('--work-dir', work_dir, '--cfg-options', *SMALL)
        done = run_command(*arguments, *options)
        assert done.returncode == 0, done.stderr
        typed += 1
    assert typed == 2


@pytest.mark.slow
def test_inline_commands():
    (inline,) = re.findall(r'`(python -[^`]+)`', README)
    assert str(ROOT / 'configs') in run_process(*shlex.split(inline)[1:])


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
