"""Fetching the published weights, from a server of this machine that may be good or bad."""

from __future__ import annotations

import hashlib
import http.server
import json
import runpy
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from golden import ONE_BLOCK, narrow_models, paddle_arrays, paddle_bytes, published, torch_bytes

from dsnet_mm.errors import UserError
from dsnet_mm.models import DSNet
from dsnet_mm.weights.download import download
from dsnet_mm.weights.fetch import get_weights
from dsnet_mm.weights.published import PUBLISHED

CONTENT = bytes(range(256)) * 4000  # 1 MB
HALF = len(CONTENT) // 2


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, well or badly.

    Attributes:
        content: The file.
        sends: How many bytes of each answer are sent before the connection breaks, one number
            for an answer; all of them when none is left.
        ranges: Whether parts of the file can be had.
        tag: Its ETag, if any.
        date: Its date of change, if any.
        status: What to answer instead of the file.
        says_length: Whether answers tell their length.
        shift: How many bytes further than asked for the parts begin.
        requests: The headers of the requests so far.
    """

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.sends, self.ranges, self.tag = CONTENT, [], True, '"1"'
        self.status, self.says_length, self.requests = None, True, []
        self.shift, self.stall, self.date = 0, threading.Event(), None
        self.url = f'http://127.0.0.1:{self.server_port}/file.pdparams'

    def handle_error(self, *_):
        """Say nothing of connections that the client left."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers)
        if server.status == 'stall':
            server.stall.wait(10)
            return
        if server.status:
            self.send_error(server.status)
            return
        start, size = self.asked_start(), len(server.content)
        if start is not None and start >= size:
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{size}')
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{size - 1}/{size}')
        if server.says_length:
            self.send_header('Content-Length', size - (start or 0))
        if server.tag:
            self.send_header('ETag', server.tag)
        if server.date:
            self.send_header('Last-Modified', server.date)
        self.end_headers()
        body = server.content[start or 0 :]
        self.wfile.write(body[: server.sends.pop(0)] if server.sends else body)

    def asked_start(self):
        """The first byte that is asked for, None for the whole file."""
        if not self.server.ranges or 'Range' not in self.headers:
            return None
        if self.headers.get('If-Range') not in (None, self.server.tag, self.server.date):
            return None
        asked = int(self.headers['Range'].removeprefix('bytes=').removesuffix('-'))
        return asked + self.server.shift


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        yield server
        server.stall.set()
        server.shutdown()
        thread.join()


def fetch(server, folder, **options):
    target = folder / 'file'
    download(server.url, target, **{'pause': 0, 'tries': 2, 'timeout': 5, **options})
    assert target.read_bytes() == server.content
    assert [path.name for path in folder.iterdir()] == ['file']


def leave_part(server, folder, content, version='', total=None):
    """Leave behind what a broken transfer leaves."""
    (folder / 'file.part').write_bytes(content)
    (folder / 'file.part.json').write_text(json.dumps([server.url, version, total]))


def asked(server):
    return [headers.get('Range') for headers in server.requests]


def test_whole_file(server, tmp_path, capsys):
    fetch(server, tmp_path)
    assert asked(server) == [None]
    assert '1.0/1.0 MB' in capsys.readouterr().out


@pytest.mark.parametrize('tag', ['"1"', None, 'W/"1"'])
def test_broken_transfers_go_on_where_they_broke(server, tmp_path, tag):
    server.sends, server.tag = [HALF, 1000, 0, 1], tag
    fetch(server, tmp_path)
    starts = [HALF, HALF + 1000, HALF + 1000, HALF + 1001]
    assert asked(server) == [None, *(f'bytes={start}-' for start in starts)]
    strong = tag if tag == '"1"' else None  # a weak one does not speak of bytes
    assert [headers['If-Range'] for headers in server.requests[1:]] == [strong] * 4


def test_a_later_run_goes_on(server, tmp_path):
    server.sends = [HALF, 0, 0]
    with pytest.raises(UserError, match=f'after {HALF} of {len(CONTENT)} bytes.*same command'):
        fetch(server, tmp_path)
    assert (tmp_path / 'file.part').stat().st_size == HALF
    fetch(server, tmp_path)
    assert asked(server)[-1] == f'bytes={HALF}-'
    assert server.requests[-1]['If-Range'] == '"1"'


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.sends, server.ranges = [HALF], False
    fetch(server, tmp_path)
    assert asked(server) == [None, f'bytes={HALF}-']


def test_a_file_that_changed_meanwhile_starts_again(server, tmp_path):
    leave_part(server, tmp_path, b'old' * 100, '"0"')
    fetch(server, tmp_path)
    assert server.requests[0]['If-Range'] == '"0"'


def test_a_file_of_no_version_that_changed_its_length_starts_again(server, tmp_path):
    server.tag = None
    leave_part(server, tmp_path, b'old' * 100, total=len(CONTENT) + 1)
    fetch(server, tmp_path)
    assert asked(server) == ['bytes=300-', None]


def test_the_date_of_a_file_tells_its_version(server, tmp_path):
    server.sends, server.tag, server.date = [HALF], None, 'Sat, 21 Nov 2026 10:00:00 GMT'
    fetch(server, tmp_path)
    assert server.requests[1]['If-Range'] == server.date


@pytest.mark.parametrize('note', [None, 'another address', 'damaged'])
def test_a_part_of_something_else_is_not_gone_on_with(server, tmp_path, note):
    leave_part(server, tmp_path, b'old' * 100)
    path = tmp_path / 'file.part.json'
    if note is None:
        path.unlink()
    else:
        path.write_text({'damaged': '["', 'another address': '["http://a/b", "", 1]'}[note])
    fetch(server, tmp_path)
    assert asked(server) == [None]


@pytest.mark.parametrize('surplus', [0, 10])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, surplus):
    leave_part(server, tmp_path, CONTENT + bytes(surplus))
    fetch(server, tmp_path)
    assert len(server.requests) == (2 if surplus else 1)


def test_a_server_that_always_breaks(server, tmp_path):
    server.ranges, server.sends = False, [HALF] * 10
    with pytest.raises(UserError, match='breaks off every time'):
        fetch(server, tmp_path)
    assert len(server.requests) == 3  # twice without getting further
    assert not (tmp_path / 'file').exists()


def test_a_server_that_sends_another_part(server, tmp_path):
    server.shift, server.tag = 10, None
    leave_part(server, tmp_path, CONTENT[:HALF])
    fetch(server, tmp_path)
    assert asked(server) == [f'bytes={HALF}-', None]


def test_a_file_of_unknown_length(server, tmp_path):
    server.says_length = False
    fetch(server, tmp_path)


@pytest.mark.parametrize('status', [403, 404, 500])
def test_refusals(server, tmp_path, status):
    server.status = status
    with pytest.raises(UserError, match=f'the server answered {status} .*--from'):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server(server, tmp_path):
    server.status = 'stall'
    with pytest.raises(UserError, match=r'cannot be reached \(timed out\)'):
        fetch(server, tmp_path, timeout=0.2)


def test_a_server_that_falls_silent(tmp_path):
    with answering(b'HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nbegin') as url:
        with pytest.raises(UserError, match='breaks off every time .*timed out'):
            download(url, tmp_path / 'file', timeout=0.2, tries=1, pause=0)
    assert (tmp_path / 'file.part').read_bytes() == b'begin'


@pytest.mark.parametrize('answer', [b'SSH-2.0-OpenSSH\r\n', b''])
def test_what_does_not_speak_http(tmp_path, answer):
    with answering(answer) as url, pytest.raises(UserError, match='cannot be reached'):
        download(url, tmp_path / 'file', timeout=0.2, pause=0)


@contextmanager
def answering(answer):
    """Answer every connection by some bytes and then keep it open."""
    listener = socket.create_server(('127.0.0.1', 0))
    connections = []

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            connection.sendall(answer)

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('no_proxy', '127.0.0.1')
        yield f'http://127.0.0.1:{listener.getsockname()[1]}/file'
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    ('url', 'words'),
    [
        ('file:///etc/hostname', 'no address that begins with http'),
        ('tiny', 'no address that begins with http'),
        ('http://', 'cannot be reached'),
        ('http://127.0.0.1:99999/file', 'cannot be reached'),
        ('http://127.0.0.1/a b', 'cannot be reached'),
    ],
)
def test_addresses_that_cannot_be(tmp_path, monkeypatch, url, words):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with pytest.raises(UserError, match=words):
        download(url, tmp_path / 'file', timeout=1)


def test_a_refused_connection(server, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    server.url = f'http://127.0.0.1:{port}/'
    with pytest.raises(UserError, match=r'cannot be reached \(.*refused.*--from'):
        fetch(server, tmp_path)


def test_a_full_disk(server, tmp_path):
    leave_part(server, tmp_path, b'')
    (tmp_path / 'file.part').unlink()
    (tmp_path / 'file.part').symlink_to('/dev/full')
    with pytest.raises(UserError, match='No space left on device'):
        fetch(server, tmp_path)


# From here on: the published file is of a narrow model of one block a stage.


@pytest.fixture
def pdparams(server, monkeypatch, tmp_path):
    """The server with a weight file at the published address; the work folder is empty."""
    narrow_models(monkeypatch)
    monkeypatch.setitem(DSNet.arch_zoo, 'tiny', {**DSNet.arch_zoo['tiny'], 'depths': ONE_BLOCK})
    server.content = paddle_bytes(paddle_arrays(published()))
    address = PUBLISHED['tiny']._replace(url=f'{server.url[:-13]}DSNet_tiny_pretrained.pdparams')
    monkeypatch.setitem(PUBLISHED, 'tiny', address)
    monkeypatch.chdir(tmp_path)
    return server


def run_tool(monkeypatch, *args):
    """Run the tool in this process and return its exit code: 0, or the text for stderr."""
    monkeypatch.setattr(sys, 'argv', ['get_weights.py', *map(str, args)])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(ROOT / 'tools' / 'get_weights.py'), run_name='__main__')
    return exit_info.value.code


def assert_usable(checkpoint):
    model = DSNet('tiny', init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
    model.init_weights()
    weight = model.stages[0].patch_embed.proj.weight
    assert torch.equal(weight, published()['patch_embed1.proj.weight'])


def test_tool_fetches_converts_and_says_what_to_write(pdparams, monkeypatch, capsys):
    assert run_tool(monkeypatch, 'tiny') == 0
    said = capsys.readouterr().out
    checkpoint = 'checkpoints/dsnet_t_in1k.pth'
    assert f"init_cfg=dict(type='Pretrained', checkpoint='{checkpoint}')" in said
    assert 'matched   182 of 182 tensors' in said
    assert_usable(checkpoint)
    names = ['DSNet_tiny_pretrained.pdparams', 'DSNet_tiny_pretrained.pdparams.sha256']
    assert sorted(path.name for path in Path('checkpoints').iterdir()) == [
        *names,
        'dsnet_t_in1k.pth',
    ]
    sha256 = hashlib.sha256(pdparams.content).hexdigest()
    assert Path('checkpoints', names[1]).read_text() == f'{sha256}  {names[0]}\n'

    assert run_tool(monkeypatch, 'tiny') == 0
    assert f'{checkpoint} stands already' in capsys.readouterr().out
    assert run_tool(monkeypatch, 'tiny', '--force') == 0
    assert len(pdparams.requests) == 1


def test_every_arch_has_its_own_file():
    assert {arch: str(model.checkpoint) for arch, model in PUBLISHED.items()} == {
        'tiny': 'checkpoints/dsnet_t_in1k.pth',
        'small': 'checkpoints/dsnet_s_in1k.pth',
        'base': 'checkpoints/dsnet_b_in1k.pth',
    }
    for arch, model in PUBLISHED.items():
        assert model.url.startswith('https://')
        assert model.url.endswith(f'/DSNet_{arch}_pretrained.pdparams')


@pytest.mark.parametrize('pack', [torch_bytes, lambda x: paddle_bytes(paddle_arrays(x))])
def test_a_file_fetched_by_hand(pdparams, tmp_path, monkeypatch, pack):
    (tmp_path / 'mine').write_bytes(pack(published()))
    assert run_tool(monkeypatch, 'tiny', '--from', 'mine', '--out', 'here/out.pth') == 0
    assert_usable('here/out.pth')
    assert pdparams.requests == []
    assert 'already exists' in run_tool(
        monkeypatch, 'tiny', '--from', 'mine', '--out', 'here/out.pth'
    )
    assert 'cannot be read' in run_tool(monkeypatch, 'tiny', '--from', 'yours')
    assert 'does not fit' in run_tool(monkeypatch, 'small', '--from', 'mine')
    assert not Path('checkpoints').exists()


def test_another_address(pdparams, monkeypatch):
    monkeypatch.setitem(PUBLISHED, 'tiny', PUBLISHED['tiny']._replace(url='http://no.invalid/a'))
    assert run_tool(monkeypatch, 'tiny', '--url', pdparams.url) == 0
    assert_usable('checkpoints/dsnet_t_in1k.pth')


def test_a_fetched_file_is_compared_with_the_first(pdparams, tmp_path):
    get_weights('tiny')
    fetched = tmp_path / 'checkpoints' / 'DSNet_tiny_pretrained.pdparams'
    original = fetched.read_bytes()
    other = {name: x + 1 for name, x in paddle_arrays(published()).items()}
    fetched.write_bytes(paddle_bytes(other))
    with pytest.raises(UserError, match='not the file of the first fetch'):
        get_weights('tiny', force=True)
    with pytest.raises(UserError, match='not the file of the first fetch'):
        get_weights('tiny', source=fetched, force=True)
    fetched.unlink()
    get_weights('tiny', force=True)
    assert fetched.read_bytes() == original
    fetched.unlink()
    pdparams.content = paddle_bytes(other)
    with pytest.raises(UserError, match='not the file of the first fetch'):
        get_weights('tiny', force=True)
    assert_usable('checkpoints/dsnet_t_in1k.pth')


def test_a_page_instead_of_the_file(pdparams):
    pdparams.content = b'<html>log in first</html>'
    with pytest.raises(UserError, match='page of a web site.*was kept, delete it'):
        get_weights('tiny')
    assert [path.name for path in Path('checkpoints').iterdir()] == [
        'DSNet_tiny_pretrained.pdparams'
    ]


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'hello',
        torch_bytes({'meta': {'arch': 'small'}}),
        torch_bytes(torch.zeros(3)),
        torch_bytes(torch.zeros(3, device='meta')),
        torch_bytes([1]),
    ],
)
def test_something_else_at_the_place_of_the_checkpoint(pdparams, tmp_path, content):
    (tmp_path / 'out.pth').write_bytes(content)
    with pytest.raises(UserError, match='is not the converted tiny model'):
        get_weights('tiny', tmp_path / 'out.pth')
    assert (tmp_path / 'out.pth').read_bytes() == content


def test_an_earlier_fetch_is_named(pdparams, monkeypatch, capsys):
    assert run_tool(monkeypatch, 'tiny') == 0
    assert 'earlier fetch' not in capsys.readouterr().out
    assert run_tool(monkeypatch, 'tiny', '--force', '--url', 'http://no.invalid/a') == 0
    assert 'is there from an earlier fetch; delete it' in capsys.readouterr().out


@pytest.mark.parametrize('wrong', ['fetched', 'record'])
def test_a_folder_in_the_way(pdparams, tmp_path, wrong):
    get_weights('tiny')
    path = tmp_path / 'checkpoints' / 'DSNet_tiny_pretrained.pdparams'
    path = path if wrong == 'fetched' else path.with_name(f'{path.name}.sha256')
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match='is not a file|cannot be read'):
        get_weights('tiny', force=True)


def test_a_record_that_cannot_be_written(pdparams, tmp_path):
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints' / 'DSNet_tiny_pretrained.pdparams.sha256').symlink_to('/no/place')
    with pytest.raises(UserError, match='cannot be written, so that'):
        get_weights('tiny')
