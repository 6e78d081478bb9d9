"""The snippets of docs/features.md work, on published weights from a server of this machine."""

from __future__ import annotations

import re

import mmpretrain
import pytest
import torch
from mmcv import imwrite

from dsnet_mm.models import DSNet
from dsnet_mm.weights.address import local_file
from dsnet_mm.weights.published_files import MIRROR
from helpers.documents import blocks, read
from helpers.golden import (
    ONE_BLOCK,
    image,
    paddle_arrays,
    paddle_bytes,
    published_shapes,
    tensor_by_name,
)
from helpers.weight_server import serving

TEXT = read('docs/features.md')
MAPS, CLASSIFICATION, GRAD_CAM = blocks(TEXT, 'python')
WEIGHTS = {
    name: tensor_by_name(name, shape)
    for name, shape in published_shapes(ONE_BLOCK, num_classes=1000).items()
}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """The cache of the weights, so that only one test downloads them."""
    return tmp_path_factory.mktemp('home')


@pytest.fixture(autouse=True)
def server(home, monkeypatch):
    """A mirror with weights of a model with the published widths and one block per stage."""
    monkeypatch.setitem(DSNet.arch_zoo, 'small', {**DSNet.arch_zoo['small'], 'depths': ONE_BLOCK})
    monkeypatch.setenv('TORCH_HOME', str(home))
    with serving() as server:
        server.content = paddle_bytes(paddle_arrays(WEIGHTS))
        monkeypatch.setenv(MIRROR, server.url)
        yield server


def run(snippet: str) -> dict[str, object]:
    scope: dict[str, object] = {}
    exec(snippet, scope)
    return scope


@pytest.mark.slow
def test_feature_maps(capsys):
    maps = run(MAPS)['maps']
    shapes = [(2, 64, 120, 160), (2, 128, 60, 80), (2, 320, 30, 40), (2, 512, 15, 20)]
    assert [tuple(x.shape) for x in maps] == shapes
    assert str(shapes) in capsys.readouterr().out
    assert len(MAPS.strip().splitlines()) == 11


@pytest.mark.slow
def test_classification(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    imwrite((image()[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy(), 'photo.jpg')
    scope = run(CLASSIFICATION)
    model, result = scope['model'], scope['result']
    stored = torch.load(local_file('dsnet://small_in1k'), weights_only=True)['state_dict']
    assert {name: tuple(x.shape) for name, x in model.state_dict().items()} == {
        name: tuple(x.shape) for name, x in stored.items()
    }
    assert all(torch.equal(x, stored[name]) for name, x in model.state_dict().items())
    name, score = result['pred_class'], result['pred_score']
    assert name in model._dataset_meta['classes']
    assert 0 < score < 1
    assert f'{name} {score}' in capsys.readouterr().out  # behind mmpretrain's progress bar


def test_names_of_classifiers():
    names = set(re.findall(r'dsnet_[tsb]_\w*in1k', TEXT))
    assert set(mmpretrain.list_models('dsnet*')) == names
    assert len(names) == 6
    for name in names:
        arch = dict(t='tiny', s='small', b='base')[name.split('_')[1]]
        found = mmpretrain.ModelHub.get(name)
        assert found.config.model.backbone.arch == arch
        assert found.config.model.backbone.get('align', True) == ('noalign' not in name)
        assert found.weights == (None if 'noalign' in name else f'dsnet://{arch}_in1k')


@pytest.mark.slow
def test_grad_cam():
    """The map is that of the definition: the sum of channels, weighted by the mean gradient."""
    scope = run(GRAD_CAM)
    model, images, cam = scope['model'], scope['images'], scope['cam']
    assert cam.shape == (1, 1, 224, 224)
    assert cam.min() >= 0
    last = model.backbone(images)[0].detach().requires_grad_()
    model.head(model.neck((last,))).max().backward()
    wanted = torch.einsum('c,chw->hw', last.grad[0].mean((1, 2)), last.detach()[0]).relu()
    assert wanted.any()
    wanted = torch.nn.functional.interpolate(wanted[None, None], (224, 224), mode='bilinear')
    torch.testing.assert_close(cam, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))
