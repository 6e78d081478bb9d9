"""The commands and configs of docs/weights.md work."""

from __future__ import annotations

import re
import shlex
import subprocess

import torch
from conftest import ROOT, dsnet_mm_ends
from golden import ONE_BLOCK, narrow_models, paddle_arrays, paddle_bytes, published, torch_bytes
from mmdet.registry import MODELS

from dsnet_mm.models import DSNet
from dsnet_mm.weights import cache
from dsnet_mm.weights.published_files import url_of

TEXT = (ROOT / 'docs' / 'weights.md').read_text()


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```', TEXT, re.M | re.S)


def run(command, monkeypatch):
    """Run a documented command: the tools in this process, others in a shell."""
    words = shlex.split(command)
    if words[:2] == ['python', '-m']:
        assert words[2] == 'pytest'
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith('-'))
    elif words[0] == 'dsnet-mm':
        assert dsnet_mm_ends(*words[1:]) == 0
    else:
        subprocess.run(command, shell=True, check=True)


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
    commands = [line for block in blocks('bash') for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        run(command, monkeypatch)
    assert asked == [url_of('tiny')]
    assert "checkpoint='dsnet://tiny_in1k'" in capsys.readouterr().out
    assert (tmp_path / 'dsnet_t_stevetsui.pth').exists()

    (config,) = blocks('python')
    scope = {}
    exec(config, scope)
    backbone = MODELS.build(scope['model']['backbone'])
    backbone.init_weights()
    weight = published()['blocks1.0.norm1.weight']
    assert torch.equal(backbone.stages[0].blocks[0].norm1.weight, weight)
