"""What docs/weights.md tells to type does what it says."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from golden import ONE_BLOCK, narrow_models, paddle_arrays, paddle_bytes, published, torch_bytes
from mmdet.registry import MODELS

from dsnet_mm.models import DSNet
from dsnet_mm.weights import fetch
from dsnet_mm.weights.published_files import PUBLISHED

TEXT = (ROOT / 'docs' / 'weights.md').read_text()


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```', TEXT, re.M | re.S)


def run(command, monkeypatch):
    """Run a documented command: the tools in this process, others in a shell."""
    words = shlex.split(command)
    if words[:2] == ['python', '-m']:
        assert words[2] == 'pytest'
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith('-'))
    elif words[0] == 'python':
        monkeypatch.setattr(sys, 'argv', words[1:])
        with pytest.raises(SystemExit) as exit_info:
            runpy.run_path(str(ROOT / words[1]), run_name='__main__')
        assert exit_info.value.code == 0, exit_info.value.code
    else:
        subprocess.run(command, shell=True, check=True)


def test_commands_and_configs(tmp_path, monkeypatch, capsys):
    narrow_models(monkeypatch)
    monkeypatch.setitem(DSNet.arch_zoo, 'tiny', {**DSNet.arch_zoo['tiny'], 'depths': ONE_BLOCK})
    content = paddle_bytes(paddle_arrays(published()))
    asked = []

    def download(url, target):
        asked.append(url)
        target.parent.mkdir()
        target.write_bytes(content)

    monkeypatch.setattr(fetch, 'download', download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'DSNet_tiny_pretrained.pdparams').write_bytes(content)
    (tmp_path / 'DSNet_tiny.pth').write_bytes(torch_bytes({'model': published(), 'epoch': 299}))
    commands = [line for block in blocks('bash') for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        run(command, monkeypatch)
    assert asked == [PUBLISHED['tiny'].url]
    assert "checkpoint='checkpoints/dsnet_t_in1k.pth'" in capsys.readouterr().out
    assert (tmp_path / 'checkpoints' / 'dsnet_t_stevetsui.pth').exists()

    (config,) = blocks('python')
    scope = {}
    exec(config, scope)
    backbone = MODELS.build(scope['model']['backbone'])
    backbone.init_weights()
    weight = published()['blocks1.0.norm1.weight']
    assert torch.equal(backbone.stages[0].blocks[0].norm1.weight, weight)
