"""What the README tells to type works, and its tables and those of the docs are right."""

import inspect
import itertools
import json
import re
import shlex
import shutil

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from dsnet_mm.models import DSFPN, DSNet
from helpers.commands import run_command, run_process
from helpers.configs import as_options
from helpers.detectors import FEW_REGIONS
from helpers.documented_commands import RUN_BY, beginning
from helpers.documents import blocks, command_lines, read
from helpers.paths import ROOT

README = read('README.md')
MODEL_PAGE = read('docs/models.md')
REPRODUCE = read('docs/reproduce.md')
SMALL = (
    'model.backbone.init_cfg=None model.backbone.norm_eval=False train_cfg.max_epochs=1 '
    'train_dataloader.dataset.pipeline.2.scale=(96,96) '
    'val_dataloader.dataset.pipeline.1.scale=(96,96) '
    'val_dataloader.dataset.metainfo.classes=circle,square,star,triangle '
    'test_dataloader.dataset.pipeline.1.scale=(96,96) '
    'train_dataloader.dataset.metainfo.classes=circle,square,star,triangle '
    'test_dataloader.dataset.metainfo.classes=circle,square,star,triangle'
).split()


@pytest.mark.slow
def test_commands(shapes_root, tmp_path):
    """Run the commands on COCO one after the other, on few and small images."""
    typed = 0
    own_data = read('docs/own_data.md').splitlines()
    for command in command_lines(README):
        file, name = (RUN_BY[beginning(command)] or '::').split('::')
        if file == 'project/test_own_data_page.py':  # which runs the commands of that page
            assert command in own_data
        if (file, name) != ('project/test_readme.py', 'test_commands'):
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
    assert 'dsnet-mm doctor' in command_lines(README)
    assert 'mmdet' in run_process('-m', 'dsnet_mm', 'doctor')


@pytest.mark.slow
def test_the_folder_of_the_configs():
    (command,) = re.findall(r'`(python -c [^`]+)`', README)
    assert str(ROOT / 'configs') in run_process(*shlex.split(command)[1:])


@pytest.fixture
def my_config(tmp_path, shapes_root):
    """Write the config of the README beside a dataset; return the path of the config."""
    (text,) = blocks(README, 'python')
    assert len(text.splitlines()) < 35
    (tmp_path / 'my_config.py').write_text(text)
    folder = tmp_path / 'data/own'
    shutil.copytree(shapes_root / 'val2017', folder)
    (folder / 'annotations').mkdir()
    for split in ('train', 'val'):
        shutil.copy(
            shapes_root / 'annotations/instances_val2017.json', folder / f'annotations/{split}.json'
        )
    return tmp_path / 'my_config.py'


def test_the_config_fits_every_size(my_config):
    for arch in ('tiny', 'small', 'base'):
        cfg = Config.fromfile(my_config)
        assert cfg.model.backbone.init_cfg.checkpoint == 'dsnet://small_in1k'
        cfg.model.backbone.update(init_cfg=None, arch=arch)
        model = MODELS.build(cfg.model)
        assert type(model.backbone) is DSNet
        assert type(model.neck) is DSFPN
        assert list(model.backbone.out_channels) == cfg.model.neck.in_channels
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    for split in ('train', 'val', 'test'):
        classes = cfg[f'{split}_dataloader'].dataset.metainfo.classes
        assert len(classes) == cfg.model.roi_head.mask_head.num_classes


@pytest.mark.slow
def test_the_config_trains(my_config):
    """Train for an epoch of one iteration, and evaluate."""
    options = as_options(
        {
            **FEW_REGIONS,
            'model.backbone.init_cfg': None,
            'model.backbone.arch': 'tiny',
            'train_cfg.max_epochs': 1,
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.dataset.pipeline.2.scale': '(96,96)',
            'val_dataloader.num_workers': 0,
            'val_dataloader.dataset.pipeline.1.scale': '(96,96)',
        }
    )
    done = run_command('train', my_config.name, '--cfg-options', *options, cwd=my_config.parent)
    assert done.returncode == 0, done.stderr
    facts = json.loads((my_config.parent / 'work_dirs/my_config/run.json').read_text())
    (evaluation,) = facts['evaluations']
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= evaluation['metrics'].keys()


def test_figures_are_those_of_the_other_pages():
    rows = re.findall(
        r'^\| (RetinaNet|Mask R-CNN), ([\w-]+)(?:\\\*)?, FPN \| ([\d.]+) \| ([\d.]+) \|',
        README,
        re.MULTILINE,
    )
    assert len(rows) == 8
    short = {
        'ResNet-50': 'r50',
        'Swin-T': 'swin_t',
        'DS-Net-S': 'dsnet_s',
        'GLNet-STL': 'glnet_stl',
    }
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


@pytest.mark.parametrize('cls', [DSNet, DSFPN])
def test_tables_of_arguments(cls):
    defaults = {k: v.default for k, v in inspect.signature(cls).parameters.items()}
    table = MODEL_PAGE.split(f'| `{cls.__name__}` |')[1].split('\n\n')[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith('|')]
    assert len(rows) > 4
    for row in rows:
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        names = re.findall(r'`(\w+)`', cells[0])
        values = [eval(value) for value in re.findall(r'`(.+?)`', cells[-1])]
        assert {name: defaults[name] for name in names} == dict(zip(names, values, strict=True))
