"""The commands and configs of docs/weights.md work."""

from __future__ import annotations

import shlex

import torch
from mmdet.registry import MODELS

from dsnet_mm.models import DSNet
from dsnet_mm.weights import cache
from dsnet_mm.weights.published_files import url_of
from helpers.commands import dsnet_mm_ends
from helpers.documents import blocks, command_lines, read
from helpers.golden import (
    ONE_BLOCK,
    narrow_models,
    paddle_arrays,
    paddle_bytes,
    published,
    torch_bytes,
)
from helpers.paths import ROOT

TEXT = read('docs/weights.md')


def run(command):
    """Run a documented command in this process, and only read one that runs tests."""
    program, *words = shlex.split(command)
    if program == 'dsnet-mm':
        assert dsnet_mm_ends(*words) == 0
    else:
        *start, tests, _, part, _ = words
        assert (program, start) == ('python', ['-m', 'pytest'])
        assert list((ROOT / tests).rglob(f'test_*{part}*.py'))


def test_commands_and_configs(tmp_path, monkeypatch, capsys):
    narrow_models(monkeypatch)
    monkeypatch.setitem(DSNet.arch_zoo, 'tiny', {**DSNet.arch_zoo['tiny'], 'depths': ONE_BLOCK})
    content = paddle_bytes(paddle_arrays(published()))
    asked = []

    def download(url, target):
        asked.append(url)
        target.write_bytes(content)

    monkeypatch.setattr(cache, 'download', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'DSNet_tiny_pretrained.pdparams').write_bytes(content)
    (tmp_path / 'DSNet_tiny.pth').write_bytes(torch_bytes({'model': published(), 'epoch': 299}))
    commands = command_lines(TEXT)
    assert len(commands) == 5
    for command in commands:
        run(command)
    assert asked == [url_of('tiny')]
    assert "checkpoint='dsnet://tiny_in1k'" in capsys.readouterr().out
    assert (tmp_path / 'checkpoints/dsnet_t_stevetsui.pth').exists()

    (config,) = blocks(TEXT, 'python')
    scope = {}
    exec(config, scope)
    backbone = MODELS.build(scope['model']['backbone'])
    backbone.init_weights()
    weight = published()['blocks1.0.norm1.weight']
    assert torch.equal(backbone.stages[0].blocks[0].norm1.weight, weight)
