"""Checkpoints of the public GLNet code are converted without omegaconf, and run nothing."""

from __future__ import annotations

import io
import os
import sys
from collections import defaultdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint

from dsnet_mm.errors import UserError
from dsnet_mm.models import GLNet
from dsnet_mm.weights.address import get_weights
from dsnet_mm.weights.published_models import classifier_around
from helpers.commands import run_command
from helpers.documents import documented
from helpers.glnet import D1121, classifier, published, tensor_by_name
from helpers.golden import image
from helpers.paths import SHARED

ARCH = dict(D1121, embed_dims=(32, 32, 64, 64), depths=(1, 1, 2, 1))
SENTINEL = 'ran'


class Command:
    """Unpickles by running a command."""

    def __reduce__(self):
        return os.system, (f'touch {SENTINEL}',)


# omegaconf need not be installed.
OMEGACONF = {name: ModuleType(name) for name in
             ('omegaconf', 'omegaconf.dictconfig', 'omegaconf.base')}  # fmt: skip
DictConfig = type('DictConfig', (), {'__module__': 'omegaconf.dictconfig'})
Metadata = type('ContainerMetadata', (), {'__module__': 'omegaconf.base'})
OMEGACONF['omegaconf.dictconfig'].DictConfig = DictConfig
OMEGACONF['omegaconf.base'].ContainerMetadata = Metadata


def settings(content: object) -> object:
    """Return an object like the settings that the public training script stores."""
    config, metadata = DictConfig(), Metadata()
    metadata.__dict__ = dict(ref_type=Any, object_type=dict, flags=defaultdict(list, a=[1]))
    config.__dict__ = dict(_metadata=metadata, _parent=None, _content=content)
    return config


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a function that writes a checkpoint as the public training script does."""
    monkeypatch.chdir(tmp_path)

    def write(content: object = 1, **entries: object):
        weights = published(ARCH, num_classes=5)
        file = io.BytesIO()
        average = {
            name: tensor_by_name(name, tuple(x.shape), 'ema.') for name, x in weights.items()
        }
        checkpoint = dict(model=weights, model_ema=average, epoch='best', args=settings(content))
        with pytest.MonkeyPatch.context() as patch:
            for name, module in OMEGACONF.items():
                patch.setitem(sys.modules, name, module)
            torch.save({**checkpoint, **entries}, file)
        (tmp_path / 'source.pth').write_bytes(file.getvalue())
        return tmp_path / 'source.pth'

    return write


@pytest.mark.parametrize('ema', [False, True])
def test_converts(source, tmp_path, ema):
    weights = get_weights(source=source(), out=tmp_path / 'out.pth', ema=ema)
    report = weights.report()
    assert 'GLNet, arch none of the published ones (depths 1-1-2-1), 5 classes' in report
    assert ('pass --ema' in report) != ema
    model = classifier_around(GLNet(ARCH), 5)
    load_checkpoint(model, str(tmp_path / 'out.pth'), strict=True)
    name = 'stages.0.blocks.0.norm1.weight'
    wanted = tensor_by_name(name, (32,), 'ema.' if ema else '')
    assert torch.equal(model['backbone'].stages[0].blocks[0].norm1.weight, wanted)
    backbone = GLNet(
        ARCH, out_indices=(0, 1), init_cfg=dict(type='Pretrained', checkpoint=weights.checkpoint)
    )
    backbone.init_weights()
    assert torch.equal(backbone.stages[0].blocks[0].norm1.weight, wanted)


def test_documented_command(tmp_path):
    program, *words = documented('docs/glnet.md', 'dsnet-mm weights')
    assert program == 'dsnet-mm'
    torch.save(published(GLNet.arch_zoo['4g'], num_classes=2), tmp_path / 'glnet_4g.pth')
    done = run_command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'GLNet, arch 4g (depths 4-4-18-4), 2 classes' in done.stdout
    assert "In a config, in the backbone with arch='4g':" in done.stdout
    assert "checkpoint='checkpoints/glnet_4g_in1k.pth'" in done.stdout


def test_settings_that_run_code_are_refused(source, tmp_path):
    with pytest.raises(UserError, match=r'asks for (posix|nt)\.system.*nothing of it was run'):
        get_weights(source=source(Command()), out=tmp_path / 'out.pth')
    assert not (tmp_path / SENTINEL).exists()
    assert not (tmp_path / 'out.pth').exists()


def test_weights_that_are_settings_are_refused(source, tmp_path):
    weights = published(ARCH, num_classes=5)
    hostile = source(model={**weights, 'norm.bias': settings(1)})
    with pytest.raises(UserError, match='holds a DictConfig at norm.bias'):
        get_weights(source=hostile, out=tmp_path / 'out.pth')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('downsample_layers.2.0.bias', 'lacks layers of a GLNet'),
        ('stages.2.blocks.1.mha_op.in_proj_bias', 'missing: stages.2.blocks.1.mha_op.in_proj_bias'),
        ('stages.0.blocks.0.slot_scale', 'missing: stages.0.blocks.0.slot_scale'),
    ],
)
def test_a_missing_tensor_is_named(source, tmp_path, name, words):
    weights = published(ARCH, num_classes=5)
    del weights[name]
    with pytest.raises(UserError, match=words):
        get_weights(source=source(model=weights), out=tmp_path / 'out.pth')


@pytest.mark.shared
@pytest.mark.parametrize('ema', [False, True])
def test_public_checkpoint(tmp_path, ema):
    folder = SHARED / 'golden' / 'glnet'
    get_weights(source=folder / 'd1121_ref.pth', out=tmp_path / 'out.pth', ema=ema)
    model = classifier(D1121, published(D1121))
    load_checkpoint(model, str(tmp_path / 'out.pth'), strict=True)
    answers = np.load(folder / f'd1121_{"ema_" if ema else ""}128x160.npz')
    with torch.no_grad():
        maps = model['backbone'](image())
        logits = model['head']['fc'](model['neck'](maps)[0])
    for given, name in ((maps[-1], 'stage4'), (logits, 'logits')):
        fault = np.abs(given.numpy() - answers[name]).max() / np.abs(answers[name]).max()
        assert fault < 5e-6
