"""What the README tells to type works, and its tables and those of the docs are right."""

import inspect
import itertools
import re
import shlex

import pytest
from conftest import ROOT, run_command, run_process
from mmdet.registry import MODELS
from mmengine.config import Config
from test_documentation import RUN_BY, beginning

from dsnet_mm.models import DSFPN, DSNet

README = (ROOT / 'README.md').read_text(encoding='utf-8')
MODEL_PAGE = (ROOT / 'docs' / 'models.md').read_text(encoding='utf-8')
REPRODUCE = (ROOT / 'docs' / 'reproduce.md').read_text(encoding='utf-8')
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
    """Run the commands on COCO one after the other, on few and small images."""
    typed = 0
    own_data = (ROOT / 'docs' / 'own_data.md').read_text(encoding='utf-8').splitlines()
    for command in commands():
        file, name = (RUN_BY[beginning(command)] or '::').split('::')
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
        done = run_command(*arguments, '--work-dir', work_dir, '--cfg-options', *SMALL)
        assert done.returncode == 0, done.stderr
        typed += 1
    assert typed == 2


@pytest.mark.slow
def test_doctor():
    assert 'dsnet-mm doctor' in commands()
    assert 'mmdet' in run_process('-m', 'dsnet_mm', 'doctor')


@pytest.mark.slow
def test_the_folder_of_the_configs():
    (command,) = re.findall(r'`(python -c [^`]+)`', README)
    assert str(ROOT / 'configs') in run_process(*shlex.split(command)[1:])


def test_the_config(tmp_path):
    """It builds with mmdet's own base, and is as short as the README shows."""
    (text,) = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    assert len(text.splitlines()) == 10
    (tmp_path / 'config.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    assert cfg.model.backbone.init_cfg.checkpoint == 'dsnet://small_in1k'
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert type(model.backbone) is DSNet
    assert type(model.neck) is DSFPN


def test_figures_are_those_of_the_other_pages():
    rows = re.findall(
        r'^\| (RetinaNet|Mask R-CNN), ([\w-]+)(?:\\\*)?, FPN \| ([\d.]+) \| ([\d.]+) \|',
        README,
        re.MULTILINE,
    )
    assert len(rows) == 6
    short = {'ResNet-50': 'r50', 'Swin-T': 'swin_t', 'DS-Net-S': 'dsnet_s'}
    for detector, backbone, parameters, macs in rows:
        name = f'{detector.lower().replace(" ", "_").replace("-", "")}_{short[backbone]}'
        whole = re.findall(rf'^\| {name}_fpn_1x_coco \|(.*)\|$', MODEL_PAGE, re.MULTILINE)
        assert whole[0].split(' | ')[-1].strip() == parameters
        assert whole[1].split(' | ')[-2].strip() == macs


def braces(text: str) -> list[str]:
    """Expand {a,b} as a shell does."""
    parts = re.split(r'\{(.*?)\}', text)
    choices = [part.split(',') if odd % 2 else [part] for odd, part in enumerate(parts)]
    return [''.join(words) for words in itertools.product(*choices)]


def test_table_of_configs():
    patterns = re.findall(r'^\| `(.*_coco)` \|', REPRODUCE, re.MULTILINE)
    names = {name for pattern in patterns for name in braces(pattern)}
    assert names == {path.stem for path in (ROOT / 'configs').glob('*_coco.py')}


def test_table_of_arguments():
    defaults = {k: v.default for k, v in inspect.signature(DSNet).parameters.items()}
    table = MODEL_PAGE.split('| `DSNet` |')[1].split('\n\n')[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith('|')]
    assert len(rows) > 6
    for row in rows:
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        names = re.findall(r'`(\w+)`', cells[0])
        values = [eval(value) for value in re.findall(r'`(.+?)`', cells[-1])]
        assert {name: defaults[name] for name in names} == dict(zip(names, values, strict=True))
