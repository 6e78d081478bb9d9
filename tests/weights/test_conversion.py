"""The converter: both formats give the same checkpoint, and nothing is lost unseen."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from dsnet_mm.errors import UserError
from dsnet_mm.models import DSNet
from dsnet_mm.weights.address import get_weights
from dsnet_mm.weights.tensor_names import published_name
from helpers.golden import (
    CLASSES,
    ONE_BLOCK,
    is_linear,
    narrow_models,
    paddle_arrays,
    paddle_bytes,
    published,
    torch_bytes,
)

FORMATS = {
    'torch': torch_bytes,
    'torch before 1.6': lambda x: torch_bytes(x, _use_new_zipfile_serialization=False),
    'paddle': lambda x: paddle_bytes(paddle_arrays(x)),
    'paddle of 2022': lambda x: paddle_bytes(paddle_arrays(x), 3, 'numpy.core'),
    'paddle, protocol 2': lambda x: paddle_bytes(paddle_arrays(x), 2, 'numpy.core'),
}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    narrow_models(monkeypatch)


def write(folder: Path, content: bytes) -> Path:
    path = folder / 'source'
    path.write_bytes(content)
    return path


def convert(source, target, arch=None, ema=False, force=False):
    return get_weights(arch, source, target, ema=ema, force=force).conversion


def load(path):
    return torch.load(path, weights_only=True)


def check_weights(checkpoint, expected):
    """Assert that a checkpoint holds the published tensors, no more and no fewer."""
    found = {published_name(name): x for name, x in load(checkpoint)['state_dict'].items()}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].is_contiguous(), name
        assert found[name].dtype == tensor.dtype, name


@pytest.mark.parametrize('write_format', FORMATS.values(), ids=FORMATS.keys())
def test_both_formats(tmp_path, write_format):
    content = write_format(published())
    conversion = convert(write(tmp_path, content), tmp_path / 'new' / 'out.pth')
    check_weights(tmp_path / 'new' / 'out.pth', published())
    is_paddle = write_format not in list(FORMATS.values())[:2]
    meta = load(tmp_path / 'new' / 'out.pth')['meta']
    assert meta == conversion.meta
    assert meta['sha256'] == hashlib.sha256(content).hexdigest()
    assert meta['source'] == 'source'
    assert meta['format'] == ('PaddlePaddle' if is_paddle else 'PyTorch')
    assert (meta['arch'], meta['depths'], meta['align']) == (None, [1, 1, 1, 1], True)
    assert meta['num_classes'] == CLASSES
    assert conversion.matched == (182 if is_paddle else 199)
    assert f'matched   {conversion.matched} of {conversion.matched}' in conversion.report()
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['out.pth']


@pytest.mark.parametrize('lay_out', [np.asfortranarray, lambda x: x.astype('>f4')])
def test_other_layouts_of_arrays(tmp_path, lay_out):
    arrays = {name: lay_out(x) for name, x in paddle_arrays(published()).items()}
    convert(write(tmp_path, paddle_bytes(arrays)), tmp_path / 'out.pth')
    check_weights(tmp_path / 'out.pth', published())


def test_without_alignment(tmp_path):
    weights = published(align=False)
    conversion = convert(write(tmp_path, torch_bytes(weights)), tmp_path / 'out.pth')
    assert not conversion.meta['align']
    check_weights(tmp_path / 'out.pth', weights)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_other_precisions(tmp_path, dtype):
    original = published()
    weights = {name: x.to(dtype) if x.is_floating_point() else x for name, x in original.items()}
    convert(write(tmp_path, torch_bytes(weights)), tmp_path / 'out.pth')
    expected = {name: x.to(original[name].dtype) for name, x in weights.items()}
    check_weights(tmp_path / 'out.pth', expected)


def shifted():
    return {name: x + 1 for name, x in published().items()}


def in_module(weights):
    return {f'module.{name}': x for name, x in weights.items()}


WRAPPED = {
    'state_dict': (lambda w: dict(state_dict=w, meta={}), False, 'state_dict'),
    'of a training': (
        lambda w: dict(
            model=w,
            model_ema=shifted(),
            optimizer=dict(state={}, param_groups=[]),
            epoch=299,
            args=argparse.Namespace(lr=1e-3, output_dir='out', model='DSNet_tiny'),
        ),
        False,
        'model',
    ),
    'its average': (lambda w: dict(model=shifted(), model_ema=w), True, 'model_ema'),
    'an average alone': (lambda w: dict(state_dict_ema=w), False, 'state_dict_ema'),
    'module.': (in_module, False, ''),
    'model, module.': (lambda w: dict(model=in_module(w)), False, 'model'),
    'twice': (lambda w: dict(model=dict(state_dict=w)), False, 'model.state_dict'),
}


@pytest.mark.parametrize(('wrap', 'ema', 'part'), WRAPPED.values(), ids=WRAPPED.keys())
def test_unwraps(tmp_path, wrap, ema, part):
    source = write(tmp_path, torch_bytes(wrap(published())))
    conversion = convert(source, tmp_path / 'out.pth', ema=ema)
    check_weights(tmp_path / 'out.pth', published())
    assert conversion.meta['part'] == part
    assert f'weights   {part or "the whole file"}' in conversion.report()
    other = isinstance(wrap({}), dict) and 'model_ema' in wrap({}) and not ema
    assert ('pass --ema' in conversion.report()) == other


def test_no_average_to_take(tmp_path):
    with pytest.raises(UserError, match='holds no model_ema'):
        convert(write(tmp_path, torch_bytes(published())), tmp_path / 'out.pth', ema=True)


def renamed(weights, name):
    weights[f'{name}2'] = weights.pop(name)
    return [f'missing: {name}', f'left over: {name}2']


def dropped(weights, name):
    del weights[name]
    return [f'(missing: {name})']


def added(weights, name):
    weights['blocks1.0.extra.weight'] = weights[name]
    return ['(left over: blocks1.0.extra.weight)']


def transposed(weights, name):
    axes = (1, 0, *range(2, weights[name].ndim))
    shape = tuple(weights[name].shape)
    weights[name] = (
        weights[name].permute(axes)
        if torch.is_tensor(weights[name])
        else weights[name].transpose(axes)
    )
    return [f'(of another shape: {name} {tuple(weights[name].shape)} instead of {shape})']


@pytest.mark.parametrize('fault', [renamed, dropped, added, transposed])
@pytest.mark.parametrize(
    'name', ['blocks3.0.channel_up.weight', 'blocks4.0.mlp.fc1.weight', 'head.weight']
)
@pytest.mark.parametrize('file_format', ['torch', 'paddle'])
def test_one_faulty_tensor_is_named(tmp_path, file_format, name, fault):
    weights = published() if file_format == 'torch' else paddle_arrays(published())
    said = fault(weights, name)
    content = torch_bytes(weights) if file_format == 'torch' else paddle_bytes(weights)
    with pytest.raises(UserError) as error:
        convert(write(tmp_path, content), tmp_path / 'out.pth')
    assert all(words in str(error.value) for words in said), error.value
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(
    'name',
    ['blocks2.0.norm_conv2.num_batches_tracked', 'norm.running_var', 'patch_embed4.proj.bias'],
)
def test_missing_statistics_are_named(tmp_path, name):
    weights = published()
    del weights[name]
    with pytest.raises(UserError, match=f'missing: {name}'):
        convert(write(tmp_path, torch_bytes(weights)), tmp_path / 'out.pth')


def test_missing_paddle_statistics_are_named_as_paddle_does(tmp_path):
    arrays = paddle_arrays(published())
    del arrays['norm._variance']
    with pytest.raises(UserError, match='missing: norm._variance'):
        convert(write(tmp_path, paddle_bytes(arrays)), tmp_path / 'out.pth')


def test_many_faults_are_counted(tmp_path):
    weights = {name: x for name, x in published().items() if not name.startswith('blocks2.0.mlp')}
    weights = {name: x for name, x in weights.items() if not name.startswith('blocks3.0.mlp')}
    with pytest.raises(UserError, match='missing: blocks2.0.mlp.fc1.weight, .* and 4 more'):
        convert(write(tmp_path, torch_bytes(weights)), tmp_path / 'out.pth')


def test_square_weights_of_paddle_are_transposed(tmp_path):
    square = [n for n, x in published().items() if is_linear(n) and x.shape[0] == x.shape[1]]
    assert len(square) == 8
    arrays = paddle_arrays(published())
    assert all(not np.array_equal(arrays[n], arrays[n].T) for n in square)
    convert(write(tmp_path, paddle_bytes(arrays)), tmp_path / 'out.pth')
    check_weights(tmp_path / 'out.pth', published())


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_arch_by_name_and_by_depths(tmp_path, monkeypatch, arch):
    depths = DSNet.arch_zoo[arch]['depths']
    assert depths in [(2, 2, 4, 1), (3, 4, 8, 3), (3, 4, 28, 3)]
    monkeypatch.setitem(DSNet.arch_zoo, arch, dict(DSNet.arch_zoo[arch], depths=ONE_BLOCK))
    source = write(tmp_path, torch_bytes(published()))
    assert convert(source, tmp_path / 'a.pth').meta['arch'] == arch
    assert convert(source, tmp_path / 'b.pth', arch).meta['arch'] == arch


def test_another_arch_than_asked_for(tmp_path):
    with pytest.raises(UserError, match=r'missing: blocks1\.1\.norm1\.weight, .* more'):
        convert(write(tmp_path, torch_bytes(published())), tmp_path / 'out.pth', 'tiny')


def test_target_is_written_over_only_by_force(tmp_path):
    source, target = write(tmp_path, torch_bytes(published())), tmp_path / 'out.pth'
    target.write_bytes(b'mine')
    with pytest.raises(UserError, match='already'):
        convert(source, target)
    assert target.read_bytes() == b'mine'
    convert(source, target, force=True)
    check_weights(target, published())


def test_force_does_not_harm_the_target_when_the_source_is_bad(tmp_path):
    source, target = write(tmp_path, torch_bytes(published())[:-1000]), tmp_path / 'out.pth'
    target.write_bytes(b'mine')
    with pytest.raises(UserError, match='cut short'):
        convert(source, target, force=True)
    assert target.read_bytes() == b'mine'


@pytest.mark.parametrize(
    ('target', 'words'),
    [
        ('source', 'is the source itself'),
        ('.', 'is a folder'),
        ('source/out.pth', 'source is not a folder'),
        ('x' * 300, 'cannot be written'),
        ('full/out.pth', 'cannot be written'),
    ],
)
def test_targets_that_cannot_be(tmp_path, monkeypatch, target, words):
    source = write(tmp_path, torch_bytes(published()))
    if target.startswith('full'):

        def no_space(*_):
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(Path, 'write_bytes', no_space)
    with pytest.raises(UserError, match=words):
        convert(source, tmp_path / target, force=True)
    assert {path.name for path in tmp_path.rglob('*')} <= {'source', 'full'}


def test_nothing_is_left_when_the_last_step_fails(tmp_path, monkeypatch):
    source = write(tmp_path, torch_bytes(published()))

    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('os.replace', refuse)
    with pytest.raises(UserError, match='Permission denied'):
        convert(source, tmp_path / 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['source']
