"""Runs of several processes, on a CPU by gloo, and the scripts that start them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from dsnet_mm.engine.distributed import start_processes
from dsnet_mm.engine.run_file import RunFile, State
from dsnet_mm.errors import UserError
from helpers.commands import run_command
from helpers.documents import documented
from helpers.paths import ROOT

DEMO = ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py'
ARCH = dict(
    _delete_=True,
    embed_dims=(32, 32, 64, 64),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
    mlp_ratio=2.0,
)
HOOK = """
import os
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Witness(Hook):
    losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))

    def after_train(self, runner):
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        torch.save(dict(losses=self.losses, weights=model.state_dict()),
                   f'{runner.work_dir}/rank{runner.rank}.pth')
"""


@pytest.fixture(scope='module')
def alike(shapes_root, tmp_path_factory) -> Path:
    """Four training images that differ in their pixels, not in their objects.

    The losses of a detector are divided by the number of anchors that meet an object. With the
    same number in each image, the mean over processes is that over all images.
    """
    root = tmp_path_factory.mktemp('alike') / 'shapes'
    shutil.copytree(shapes_root, root)
    ann_file = root / 'annotations' / 'instances_train2017.json'
    data = json.loads(ann_file.read_text())
    first = data['images'][0]
    objects = [a for a in data['annotations'] if a['image_id'] == first['id']]
    assert objects
    pixels = np.asarray(Image.open(root / 'train2017' / first['file_name']))
    data['images'], data['annotations'] = [], []
    for number in range(4):
        name = f'alike_{number}.png'
        Image.fromarray(np.roll(pixels, number, axis=2)).save(root / 'train2017' / name)
        data['images'].append({**first, 'id': number + 1, 'file_name': name})
        data['annotations'] += [
            {**item, 'id': len(data['annotations']) + i + 1, 'image_id': number + 1}
            for i, item in enumerate(objects)
        ]
    ann_file.write_text(json.dumps(data))
    return root


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A small detector trained in order, by SGD: Adam would hide a gradient of another scale."""
    folder = tmp_path_factory.mktemp('config')
    (folder / 'witness.py').write_text(HOOK)
    path = folder / 'config.py'
    path.write_text(f"""
_base_ = {str(DEMO)!r}
custom_imports = dict(imports=['dsnet_mm', 'witness'], allow_failed_imports=False)
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='Witness')]
model = dict(
    backbone=dict(arch={ARCH}, norm_eval=True, with_cp=True),
    neck=dict(
        type='DSFPN', in_channels=[32, 32, 64, 64],
        block_norm_cfg=dict(type='GN', num_groups=16)),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.05, weight_decay=0.0))
param_scheduler = []
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False),
    dataset=dict(pipeline=_PIPELINE_),
)
val_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=9)
""".replace('_PIPELINE_', repr([
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs'),
    ])))  # fmt: skip
    return path


def environment(config: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    return {
        **os.environ,
        'PATH': path,
        'PYTHONPATH': os.pathsep.join([str(ROOT), str(config.parent)]),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
    }


def run(config: Path, *command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment(config),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def trained(config, alike, tmp_path_factory) -> Path:
    """The work dir of a training in two processes."""
    work_dir = tmp_path_factory.mktemp('two')
    script, shown, gpus = documented('docs/reproduce.md', 'dist_train.sh')
    assert (ROOT / shown).exists()
    assert gpus == '8'
    run(config, script, config, 2, '--data-root', alike, '--work-dir', work_dir)
    return work_dir


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_doubled_batch(
    trained, config, alike, tmp_path, monkeypatch
):
    first, second = (torch.load(trained / f'rank{rank}.pth') for rank in (0, 1))
    facts = RunFile.read(trained)
    assert (facts.state, facts.world_size, facts.batch_size) == (State.FINISHED, 2, 4)
    assert first['losses'] != second['losses']
    for name, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][name]), name

    monkeypatch.syspath_prepend(config.parent)
    done = run_command('train', config, '--data-root', alike, '--work-dir', tmp_path,
                '--cfg-options', 'train_dataloader.batch_size=4')  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone = torch.load(tmp_path / 'rank0.pth')
    assert len(alone['losses']) == len(first['losses']) == 2
    means = np.mean([first['losses'], second['losses']], axis=0)
    np.testing.assert_allclose(means, alone['losses'], rtol=1e-5)
    assert alone['losses'][1] != pytest.approx(alone['losses'][0], rel=1e-4)
    for name, weight in alone['weights'].items():
        torch.testing.assert_close(first['weights'][name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_processes_evaluate_every_image_once(trained, config, shapes_root, tmp_path):
    """Three images for two processes: one of them gets an image more to keep step."""
    script, shown, _, gpus = documented('docs/reproduce.md', 'dist_test.sh')
    assert (ROOT / shown).exists()
    assert gpus == '8'
    log = run(config, script, config, trained / 'epoch_2.pth', 2,
              '--data-root', shapes_root, '--work-dir', tmp_path,
              '--out', tmp_path / 'out.pkl', '--cfg-options',
              'test_dataloader.dataset.indices=3')  # fmt: skip
    assert 'Epoch(test) [2/2]' in log
    with open(tmp_path / 'out.pkl', 'rb') as file:
        predictions = pickle.load(file)
    assert len({prediction['img_id'] for prediction in predictions}) == len(predictions) == 3


@pytest.mark.parametrize(
    ('launcher', 'words'),
    [
        ('pytorch', 'begin the command with `torchrun --nproc_per_node GPUS -m dsnet_mm`, or omit'),
        ('slurm', 'begin the command with `srun dsnet-mm`'),
        ('mpi', 'begin the command with `mpirun dsnet-mm`'),
    ],
)
def test_a_launcher_that_was_not_used_gets_a_sentence(launcher, words, monkeypatch):
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=words):
        start_processes(Config(dict(launcher=launcher)))


@pytest.mark.skipif(torch.cuda.is_available(), reason='Slurm may use the GPUs')
def test_slurm_without_a_gpu_gets_a_sentence(monkeypatch):
    monkeypatch.setenv('SLURM_PROCID', '0')
    with pytest.raises(UserError, match='--launcher slurm needs GPUs'):
        start_processes(Config(dict(launcher='slurm')))


@pytest.mark.parametrize(
    ('command', 'words'),
    [
        (['dist_train.sh'], 'usage: '),
        (['dist_train.sh', 'c.py', 'many'], "'many' is not a number of processes"),
        (['dist_test.sh', 'c.py', 'c.pth'], 'usage: '),
        (['slurm_train.sh', 'p', 'j'], 'usage: '),
    ],
)
def test_scripts_say_what_is_missing(command, words):
    done = subprocess.run(
        [ROOT / 'tools' / command[0], *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ('command', 'program', 'expected'),
    [
        (
            ['slurm_train.sh', 'gpu', 'name', 'c.py', 'out dir', '--amp'],
            'srun',
            '--partition gpu --job-name name --gres gpu:4 --ntasks 4 --ntasks-per-node 4 '
            '--cpus-per-task 5 --kill-on-bad-exit 1 --exclusive python -u {tools}/train.py c.py '
            '--work-dir out dir --launcher slurm --amp',
        ),
        (
            ['dist_train.sh', 'c.py', '8', '--amp'],
            'python',
            '-m torch.distributed.run --nnodes 2 --node_rank 1 --master_addr host '
            '--master_port 29500 --nproc_per_node 8 {tools}/train.py c.py --amp '
            '--launcher pytorch',
        ),
    ],
)
def test_scripts_of_clusters_start(command, program, expected, tmp_path):
    stand_in = tmp_path / program
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    settings = dict(
        GPUS='4', SRUN_ARGS='--exclusive', NNODES='2', NODE_RANK='1', MASTER_ADDR='host'
    )
    done = subprocess.run(
        [ROOT / 'tools' / command[0], *command[1:]],
        env={**os.environ, **settings, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected.format(tools=ROOT / 'tools')
