"""Download a file from a server of this machine that may be good or bad."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import pytest

from dsnet_mm.weights import published_files
from dsnet_mm.weights.published_files import ARCHS, PADDLE_CLAS, DownloadError, download, url_of
from helpers.weight_server import serving


@pytest.fixture
def server():
    with serving() as server:
        yield server


def test_whole_file(server, tmp_path, capsys):
    download(server.url, tmp_path / 'file')
    assert (tmp_path / 'file').read_bytes() == server.content
    assert '1.0/1.0 MB' in capsys.readouterr().out


def test_a_file_of_unknown_length(server, tmp_path):
    server.says_length = False
    download(server.url, tmp_path / 'file')
    assert (tmp_path / 'file').read_bytes() == server.content


def test_a_file_that_is_cut_short_is_refused(server, tmp_path):
    server.sends = 1000
    with pytest.raises(DownloadError, match='broke off after 1000 of 1024000 bytes'):
        download(server.url, tmp_path / 'file')


@pytest.mark.parametrize('says_length', [True, False])
def test_a_file_that_is_too_large_is_not_stored(server, tmp_path, monkeypatch, says_length):
    monkeypatch.setattr(published_files, 'MAX_BYTES', 10_000)
    monkeypatch.setattr(published_files, 'CHUNK', 1000)
    server.says_length = says_length
    with pytest.raises(DownloadError, match='more than 10000 bytes'):
        download(server.url, tmp_path / 'file')
    assert (tmp_path / 'file').stat().st_size < 12_000


@pytest.mark.parametrize('status', [403, 404, 500])
def test_refusals(server, tmp_path, status):
    server.status = status
    with pytest.raises(DownloadError, match=f'the server answered {status} '):
        download(server.url, tmp_path / 'file')
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server(server, tmp_path):
    server.pause.clear()
    with pytest.raises(DownloadError, match=r'cannot be reached \(timed out\)'):
        download(server.url, tmp_path / 'file', timeout=0.2)


def test_a_server_that_falls_silent(tmp_path):
    with answering(b'HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nbegin') as url:
        with pytest.raises(DownloadError, match='broke off .*timed out'):
            download(url, tmp_path / 'file', timeout=0.2)


@pytest.mark.parametrize('answer', [b'SSH-2.0-OpenSSH\r\n', b''])
def test_what_does_not_speak_http(tmp_path, answer):
    with answering(answer) as url, pytest.raises(DownloadError, match='cannot be reached'):
        download(url, tmp_path / 'file', timeout=0.2)


@contextmanager
def answering(answer):
    """Answer every connection by some bytes and then keep the connection open."""
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
    yield f'http://127.0.0.1:{listener.getsockname()[1]}/file'
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    ('url', 'words'),
    [
        ('file:///etc/hostname', 'does not begin with http'),
        ('tiny', 'does not begin with http'),
        ('http://', 'cannot be reached'),
        ('http://127.0.0.1:99999/file', 'cannot be reached'),
        ('http://127.0.0.1/a b', 'cannot be reached'),
        ('http://127.0.0.1:9/file', 'cannot be reached .*refused'),
    ],
)
def test_addresses_that_cannot_be(tmp_path, url, words):
    with pytest.raises(DownloadError, match=words):
        download(url, tmp_path / 'file', timeout=1)


def test_a_full_disk(server, tmp_path):
    (tmp_path / 'file').symlink_to('/dev/full')
    with pytest.raises(OSError, match='No space left on device'):
        download(server.url, tmp_path / 'file')


def test_every_arch_has_its_own_file(monkeypatch):
    monkeypatch.setenv('DSNET_MM_WEIGHTS_URL', 'http://mirror/folder/')
    assert url_of('small') == 'http://mirror/folder/DSNet_small_pretrained.pdparams'
    monkeypatch.delenv('DSNET_MM_WEIGHTS_URL')
    for arch in ARCHS:
        assert url_of(arch) == f'{PADDLE_CLAS}/DSNet_{arch}_pretrained.pdparams'
    assert PADDLE_CLAS.startswith('https://')
