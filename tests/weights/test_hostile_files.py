"""Hostile, damaged and foreign files cause one sentence, run nothing and leave no trace."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from dsnet_mm.errors import UserError
from dsnet_mm.weights.address import get_weights
from helpers.golden import narrow_models, paddle_arrays, paddle_bytes, published, torch_bytes

SENTINEL = 'ran'


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    narrow_models(monkeypatch)


class Command:
    """Unpickles by running a command."""

    def __reduce__(self):
        return os.system, (f'touch {SENTINEL}',)


class Code:
    """Unpickles by running Python."""

    def __reduce__(self):
        return eval, (f"open('{SENTINEL}', 'w')",)


def object_array():
    array = np.empty(1, dtype=object)
    array[0] = Command()
    return array


def old_torch(entries):
    return torch_bytes(entries, _use_new_zipfile_serialization=False)


def archive(compression=zipfile.ZIP_STORED, **entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as written:
        for name, content in entries.items():
            written.writestr(f'archive/{name.replace("_", ".")}', content)
    return file.getvalue()


def with_tensor(tensor):
    return torch_bytes({**published(), 'norm.bias': tensor})


def with_array(array):
    return paddle_bytes({**paddle_arrays(published()), 'norm.bias': array})


def looped():
    entries = {}
    entries['model'] = entries
    return entries


def array_state(state):
    """Pickle an array whose state is forged."""
    head = b'\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R'
    return b'\x80\x04}X\x01\x00\x00\x00a' + head[2:] + pickle.dumps(state, 4)[2:-1] + b'bs.'


with pytest.MonkeyPatch.context() as patch:
    narrow_models(patch)
    # each of these creates the sentinel when it is unpickled as usual
    COMMANDS = {
        'command': pickle.dumps(Command(), 4),
        'command, protocol 2': pickle.dumps(Command(), 2),
        'python': pickle.dumps(Code(), 4),
        'among weights': pickle.dumps({**paddle_arrays(published()), 'norm.bias': Command()}, 4),
        'in an array of objects': pickle.dumps({'norm.bias': object_array()}, 4),
        'as a name': pickle.dumps({(Command(),): 1}, 4),
        'by INST': b"\x80\x02(S'touch ran'\nios\nsystem\n.",
        'by OBJ': b"\x80\x02(cos\nsystem\nS'touch ran'\no.",
        'twice': b'\x80\x02cos\nsystem\nq\x00X\x09\x00\x00\x00touch ran\x85Rh\x00X\x09\x00\x00\x00'
        b'touch ran\x85R0.',
    }
    TORCH_COMMANDS = {
        'torch': torch_bytes(Command()),
        'torch, python': torch_bytes({'model': published(), 'args': Code()}),
        'torch among weights': torch_bytes({'model': {**published(), 'norm.bias': Command()}}),
        'torch before 1.6': old_torch({'model': published(), 'epoch': Command()}),
        'torch, array of objects': torch_bytes({'model': {'norm.bias': object_array()}}),
    }

    ENCODE = b'\x80\x04c_codecs\nencode\n'
    TORCH = torch_bytes(published())
    PADDLE = paddle_bytes(paddle_arrays(published()))

    BROKEN = {
        'empty': ('has 0 bytes', b''),
        'text': ('is neither', b'hello'),
        'web page': ('is neither', b'<!DOCTYPE html><html>Too many requests</html>'),
        'zeros': ('is neither', bytes(1000)),
        'torch, half': ('cannot be read as a P', TORCH[: len(TORCH) // 2]),
        'torch, last byte': ('cannot be read as a P', TORCH[:-1]),
        'torch, first bytes': ('cannot be read as a P', TORCH[:4]),
        'torch, a byte of the pickle': (
            'cannot be read as a P',
            TORCH.replace(b'norm.bias', b'norm\x80bias', 1),
        ),
        'torch before 1.6, half': ('cannot be read as a P', old_torch(published())[:3000]),
        'paddle, half': ('cannot be read as a P', PADDLE[: len(PADDLE) // 2]),
        'paddle, last byte': ('cannot be read as a P', PADDLE[:-1]),
        'paddle, first bytes': ('cannot be read as a P', PADDLE[:2]),
        'other zip': ('cannot be read as a P', archive(readme_txt='hello')),
        'zip that unpacks to much': (
            'unpacks to 10000000 bytes',
            archive(zipfile.ZIP_DEFLATED, data_pkl=bytes(10**7)),
        ),
        'torch list': ('holds a list, and', torch_bytes([1, 2])),
        'torch tensor': ('holds a Tensor, and', torch_bytes(torch.zeros(2))),
        'torch, no tensors': (
            'holds no tensors with the published names',
            torch_bytes({'model': {}}),
        ),
        'torch, another model': (
            'holds no tensors with the published names',
            torch_bytes({'state_dict': {'conv1.weight': torch.zeros(2, 2)}}),
        ),
        'torch, nested without end': ('holds a dict at model', torch_bytes(looped())),
        'torch, text for a tensor': ('holds a str at norm.bias', with_tensor('zeros')),
        'torch, number for a tensor': ('holds a int at norm.bias', with_tensor(3)),
        'torch, too large a tensor': (
            'up to norm.bias claim to be larger',
            with_tensor(torch.zeros(1).expand(10**13)),
        ),
        'torch, one tensor by many names': (
            'claim to be larger',
            torch_bytes(dict.fromkeys(map(str, range(200)), torch.zeros(10**4))),
        ),
        'torch, sparse': ('holds a Tensor at norm.bias', with_tensor(torch.zeros(32).to_sparse())),
        'torch, on no device': (
            'holds a Tensor at norm.bias',
            with_tensor(torch.zeros(32, device='meta')),
        ),
        'torch, whole numbers': (
            'no real numbers, in norm.bias',
            with_tensor(torch.zeros(32, dtype=torch.int32)),
        ),
        'torch, complex numbers': (
            'no real numbers, in norm.bias',
            with_tensor(torch.zeros(32, dtype=torch.complex64)),
        ),
        'torch, not a number': (
            'no real numbers, in norm.bias',
            with_tensor(torch.full((32,), float('nan'))),
        ),
        'torch, very many blocks': (
            'names 1000 blocks',
            torch_bytes({f'blocks1.{i}.norm1.bias': torch.zeros(0) for i in range(1000)}),
        ),
        'paddle list': ('holds a list, and', pickle.dumps([1, 2])),
        'paddle, no arrays': ('holds no tensors with the published names', pickle.dumps({})),
        'paddle, another model': (
            'holds no tensors with the published names',
            paddle_bytes({'conv1.weight': np.zeros((2, 2), 'f4')}),
        ),
        'paddle, infinite': (
            'no real numbers, in norm.bias',
            with_array(np.full(32, np.inf, 'f4')),
        ),
        'paddle, one array by many names': (
            'claim to be larger',
            paddle_bytes(dict.fromkeys(map(str, range(200)), np.zeros(10**4, 'f4'))),
        ),
        'paddle, text array': ('arrays of the type', with_array(np.array(['a'] * 32))),
        'paddle, records': ('arrays of the type', with_array(np.zeros(32, dtype=[('a', 'f4')]))),
        'paddle, text': ('holds a str at norm.bias', pickle.dumps({'norm.bias': 'zeros'})),
        'array without state': (
            'holds a type at a',
            b'\x80\x04}X\x01\x00\x00\x00acnumpy\nndarray\ns.',
        ),
        'array of forged shape': (
            'cannot be read as a P',
            array_state((1, (10**13,), None, False, b'1234')),
        ),
        'array of forged state': ('cannot be read as a P', array_state({'__class__': 1})),
        'state for a function': (
            'a state for function',
            b'\x80\x04cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.',
        ),
        'memo without memory': (
            'holds no tensors with the published names',
            b'\x80\x04}r\xff\xff\xff\xff.',
        ),
        'bytes without end': (
            'cannot be read as a P',
            b'\x80\x04}X\x01\x00\x00\x00a\x8e' + struct.pack('<Q', 2**62) + b's.',
        ),
        'frame without end': (
            'holds no tensors with the published names',
            b'\x80\x04\x95' + struct.pack('<Q', 2**62) + b'}.',
        ),
        'number without end': ('cannot be read as a P', b'\x80\x04\x8b\xff\xff\xff\x7f.'),
        'nested names': ('named by a tuple', b'\x80\x04})' + b'\x85' * 10**6 + b'K\x01s.'),
        'nested lists': (
            'holds a list, and',
            b'\x80\x04' + b']' * 10**5 + b'a' * (10**5 - 1) + b'.',
        ),
        'another encoding': (
            'in another encoding',
            ENCODE + b'X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.',
        ),
        'text again and again': (
            'much text',
            ENCODE
            + b'q\x00X\x10\x27\x00\x00'
            + b'a' * 10000
            + b'X\x06\x00\x00\x00latin1\x86q\x01R'
            + b'h\x00h\x01R' * 1000
            + b'.',
        ),
        'persistent': ('cannot be read as a P', b'\x80\x04Pnorm.bias\n.'),
        'extension': ('cannot be read as a P', b'\x80\x04\x82\x01.'),
        'admitted module, another name': ('asks for numpy.load', b'\x80\x04cnumpy\nload\n.'),
        'dotted name': (
            'asks for numpy.dtype.mro',
            b'\x80\x04\x8c\x05numpy\x8c\x0cdtype.mro.im\x93.',
        ),
        'escapes in a name': (
            "left over: '\\x1b]0;title",
            torch_bytes({**published(), '\x1b]0;title\x07': torch.zeros(1)}),
        ),
        'long name': ('aaa...', torch_bytes({**published(), 'a' * 10**6: torch.zeros(1)})),
        'long request': ('aaa...', b'\x80\x04c' + b'a' * 10**6 + b'\nname\n.'),
    }


def refusal(source, target):
    """Convert a file, and return the error."""
    with pytest.raises(UserError) as error:
        get_weights(source=source, out=target, force=True)
    return str(error.value)


def assert_refused(monkeypatch, folder, content):
    monkeypatch.chdir(folder)
    (folder / 'source').write_bytes(content)
    (folder / 'target.pth').write_bytes(b'mine')
    said = refusal('source', 'target.pth')
    assert said.startswith('source ')
    assert '\n' not in said
    assert len(said) < 400
    assert {path.name for path in folder.iterdir()} == {'source', 'target.pth'}
    assert (folder / 'target.pth').read_bytes() == b'mine'
    return said


@pytest.mark.parametrize('content', COMMANDS.values(), ids=COMMANDS.keys())
def test_commands_in_pickles_do_not_run(tmp_path, monkeypatch, content):
    control = tmp_path / 'control'
    control.mkdir()
    monkeypatch.chdir(control)
    pickle.loads(content)
    assert (control / SENTINEL).exists(), 'the file would not have been a danger'
    (tmp_path / 'test').mkdir()
    said = assert_refused(monkeypatch, tmp_path / 'test', content)
    assert 'nothing of it was run' in said or 'of another kind' in said


@pytest.mark.parametrize('content', TORCH_COMMANDS.values(), ids=TORCH_COMMANDS.keys())
def test_commands_in_torch_files_do_not_run(tmp_path, monkeypatch, content):
    control = tmp_path / 'control'
    control.mkdir()
    monkeypatch.chdir(control)
    torch.load(io.BytesIO(content), weights_only=False)
    assert (control / SENTINEL).exists(), 'the file would not have been a danger'
    (tmp_path / 'test').mkdir()
    assert 'nothing of it was run' in assert_refused(monkeypatch, tmp_path / 'test', content)


@pytest.mark.parametrize(('words', 'content'), BROKEN.values(), ids=BROKEN.keys())
def test_broken_and_foreign_files(tmp_path, monkeypatch, words, content):
    assert words in assert_refused(monkeypatch, tmp_path, content)


@pytest.mark.parametrize('kind', ['absent', 'folder', 'pipe', 'of a folder'])
def test_what_is_no_file(tmp_path, kind):
    source = tmp_path / 'source'
    if kind == 'folder':
        source.mkdir()
    elif kind == 'pipe':
        os.mkfifo(source)
    elif kind == 'of a folder':
        source.write_bytes(b'')
        source = source / 'file'
    said = refusal(source, tmp_path / 'target.pth')
    assert said.startswith(f'{source} ')
    assert 'pass the path of a .pth or .pdparams file' in said
    assert '\n' not in said
    assert not (tmp_path / 'target.pth').exists()


def test_too_large_a_file_is_not_read(tmp_path):
    with open(tmp_path / 'source', 'wb') as file:
        file.truncate(2**40)  # takes no space on the disk
    said = refusal(tmp_path / 'source', tmp_path / 'target.pth')
    assert f'has {2**40} bytes' in said


def test_an_old_torch_is_named_and_not_the_file(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.serialization, 'safe_globals')
    said = assert_refused(monkeypatch, tmp_path, TORCH)
    assert 'convert it with torch 2.5 or later' in said


def test_a_refused_file_says_what_it_asked_for(tmp_path, monkeypatch):
    assert 'asks for posix.system' in assert_refused(monkeypatch, tmp_path, COMMANDS['command'])
    assert 'asks for posix.system' in assert_refused(monkeypatch, tmp_path, TORCH_COMMANDS['torch'])
