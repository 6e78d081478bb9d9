"""Train, resume and test a model of mmsegmentation as a user types it, and the errors."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from dsnet_mm.cli import doctor
from dsnet_mm.data.shapes_segmentation import SEGMENTATION_METAINFO, ShapesSegmentation
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.explain_errors import explain
from helpers.commands import dsnet_mm_ends, run_command
from helpers.paths import ROOT

pytest.importorskip('mmseg.models', reason='needs mmsegmentation')

MINI = ROOT / 'configs' / 'segmentation' / 'upernet_dsnet_mini_shapes.py'
ADE = 'configs/segmentation/upernet_dsnet_t_160k_ade20k.py'
ARCH = 'dict(embed_dims=(8, 16, 32, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=1)'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes_seg'
    ShapesSegmentation(train=6, val=3, size=32).write(root)
    return root


@pytest.fixture(scope='module')
def config(data, tmp_path_factory) -> Path:
    """A config that trains for two iterations in a second."""
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(f"""
_base_ = {str(MINI)!r}
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(arch=dict(_delete_=True, **{ARCH}), init_cfg=None),
    decode_head=dict(in_channels=[8, 16, 32, 32], channels=8),
    auxiliary_head=dict(in_channels=32, channels=8),
)
loader = dict(num_workers=0, dataset=dict(data_root={str(data)!r}))
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = dict(batch_size=2, **loader)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
""")
    return path


def run(*words: object, cwd: Path = ROOT) -> str:
    done = run_command(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory) -> Path:
    """The work dir of a training of two iterations."""
    work_dir = tmp_path_factory.mktemp('trained')
    log = run('train', config, '--work-dir', work_dir)
    assert 'Iter(train) [2/2]' in log
    assert 'mIoU' in log
    return work_dir


def test_training_leaves_a_checkpoint_that_loads_safely(trained):
    checkpoint = torch.load(trained / 'iter_2.pth', weights_only=True)
    assert {'state_dict', 'optimizer', 'param_schedulers', 'message_hub'} <= set(checkpoint)
    meta = checkpoint['meta']['dataset_meta']
    assert tuple(meta['classes']) == SEGMENTATION_METAINFO['classes']
    assert not meta['reduce_zero_label']


def test_test_evaluates_stores_and_draws(trained, config, data, tmp_path):
    out, pictures = tmp_path / 'predictions.pkl', tmp_path / 'pictures'
    log = run('test', config, trained / 'iter_2.pth', '--work-dir', tmp_path / 'work', '--fuse',
              '--out', out, '--show-dir', pictures)  # fmt: skip
    assert 'mIoU' in log
    with out.open('rb') as file:
        predictions = pickle.load(file)
    names = [f'00000{number}' for number in (1, 2, 3)]
    assert [Path(item['img_path']).stem for item in predictions] == names
    for item in predictions:
        assert item['pred_sem_seg'].shape == (1, 32, 32)
        assert set(item['pred_sem_seg'].unique().tolist()) <= {0, 1, 2, 3, 4}
        assert 'seg_logits' not in item
    drawn = sorted(pictures.iterdir())
    assert [path.name.partition('.')[0] for path in drawn] == [f'test_{name}' for name in names]
    # label map and prediction side by side
    assert all(Image.open(path).size == (64, 32) for path in drawn)


def test_resume_goes_on(trained, config, tmp_path):
    work_dir = tmp_path / 'resumed'
    shutil.copytree(trained, work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_2.pth'))
    words = ['train', config, '--work-dir', work_dir, '--resume']
    assert 'is already trained for 2 of 2 iterations' in run(*words)
    log = run(*words, '--cfg-options', 'train_cfg.max_iters=3')
    assert 'resumed epoch: 0, iter: 2' in log
    assert 'Iter(train) [3/3]' in log
    assert 'is not HistoryBuffer' not in log
    assert torch.load(work_dir / 'iter_3.pth', weights_only=True)['meta']['iter'] == 3


def test_schedules_follow_the_number_of_iterations():
    cfg = load_config(str(ROOT / ADE), cfg_options={'train_cfg.max_iters': 40000})
    warmup, poly = cfg.param_scheduler
    assert (warmup.end, poly.begin, poly.end) == (1500, 1500, 40000)


def test_missing_data(config, data, tmp_path):
    sentence = dsnet_mm_ends('train', ADE, '--data-root', tmp_path)
    assert f'{tmp_path}/images/training is missing' in sentence
    assert 'ADE20K is available at' in sentence
    sentence = dsnet_mm_ends('train', MINI, '--data-root', tmp_path)
    assert '`dsnet-mm shapes --task segmentation --root DIR` draws it' in sentence

    root = tmp_path / 'shapes_seg'
    shutil.copytree(data, root)
    (root / 'annotations' / 'training' / '000002.png').unlink()
    sentence = dsnet_mm_ends('train', config, '--data-root', root)
    assert f'{root}/annotations/training has no label map for 1 image' in sentence
    assert 'such as 000002.png' in sentence
    for image in (root / 'images' / 'training').iterdir():
        image.unlink()
    assert 'images/training has no image *.jpg' in dsnet_mm_ends(
        'train', config, '--data-root', root
    )


def test_a_label_without_a_class(config, tmp_path):
    sentence = dsnet_mm_ends('train', config, '--work-dir', tmp_path, '--cfg-options',
                             'model.decode_head.num_classes=2')  # fmt: skip
    assert f'a label map of {config} has the number' in sentence
    assert 'reduce_zero_label=True if the classes begin at 1' in sentence
    assert explain(IndexError('list index out of range'), Config(dict()), '') is None


def test_options_of_detectors(trained, config, data, tmp_path):
    sentence = dsnet_mm_ends('test', config, trained / 'iter_2.pth', '--ann', 'other.json')
    assert 'is for detectors' in sentence
    assert '--data-root' in sentence
    image = data / 'images' / 'validation' / '000001.jpg'
    sentence = dsnet_mm_ends('predict', config, trained / 'iter_2.pth', image, '--out', tmp_path)
    assert 'is not the config of a detector' in sentence


def test_without_mmsegmentation(monkeypatch, tmp_path, capsys):
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmseg']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    sentence = dsnet_mm_ends('train', MINI, '--work-dir', tmp_path)
    assert f'{MINI} needs ' in sentence
    assert 'mmsegmentation, which cannot be imported' in sentence
    assert 'run `pip install "' in sentence
    assert sentence.endswith(' ftfy regex`')
    assert '\n' not in sentence
    assert [fault for fault in doctor._import_problems() if 'mmseg' in fault] == []
