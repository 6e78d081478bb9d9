"""Test the web page: its server, and the page in a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from helpers.commands import dsnet_mm_ends
from helpers.datasets import CLASSES
from helpers.detectors import make_detector
from helpers.documents import documented
from helpers.paths import ROOT

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

REASON = 'needs the extra app'
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser'))), None)
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
         '--disable-background-networking', '--disable-component-update')  # fmt: skip
MILLISECONDS = 120_000  # that a busy machine may need


@pytest.mark.parametrize(
    ('gradio', 'reason'),
    [(None, '.+'), (SimpleNamespace(__version__='5.49.1'), 'its version is 5.49.1')],
    ids=['missing', 'old'],
)
def test_without_gradio_one_sentence_says_what_to_install(monkeypatch, gradio, reason):
    for name in ('fastapi', 'uvicorn'):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'gradio', gradio)
    monkeypatch.delitem(sys.modules, 'dsnet_mm.app.page', raising=False)
    sentence = dsnet_mm_ends('app', 'config.py', 'checkpoint.pth')
    assert re.fullmatch(
        rf'error: gradio cannot be imported \({reason}\); run `pip install .+`.*', sentence
    )


@pytest.fixture
def client(monkeypatch, tmp_path) -> Iterator:
    """Return a client of the server, whose detector cannot detect."""
    pytest.importorskip('gradio', reason=REASON)
    from starlette.testclient import TestClient

    from dsnet_mm.app import page

    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    monkeypatch.setattr(page, 'MAX_FILE_SIZE', '1mb')
    viewer = SimpleNamespace(blocks=[], notes=[], backbone=object(), summary='a <detector>')
    with TestClient(page.web_app(page.build(viewer, 'My title', 0.5))) as client:
        yield client


def test_the_server_limits_uploads_and_serves_no_files_of_the_machine(client, tmp_path):
    whole = client.get('/')
    assert whole.status_code == 200
    assert 'need a DS-Net or GLNet backbone, and this detector has object.' in whole.text
    for file in ('/etc/passwd', ROOT / 'README.md', tmp_path / '..' / 'x', __file__):
        assert client.get(f'/gradio_api/file={file}').status_code in (403, 404)
    large, small = (('files', ('a.png', bytes(n))) for n in (2 << 20, 1 << 10))
    assert client.post('/gradio_api/upload', files=[large]).status_code == 413
    assert client.post('/gradio_api/upload', files=[small]).status_code == 200
    (uploading,) = (f for f in client.get('/config').json()['dependencies'] if len(f['inputs']) == 3
                    and 'upload' in str(f['targets']))  # fmt: skip
    data = [dict(path='/etc/passwd', meta=dict(_type='gradio.FileData')), 0.5, None]
    direct = client.post('/gradio_api/run/predict', json=dict(data=data, fn_index=uploading['id']))
    assert direct.status_code != 200


def test_scripts_and_fonts_are_those_of_the_server(client):
    """Links to other servers may only be in the descriptions for social networks."""
    text = re.sub(r'<meta\b[^>]*>', '', client.get('/').text)
    style = client.get('/theme.css').text
    assert re.findall(r'(?:src|href)="(https?://[^"]+)', text) == []
    assert 'fonts.g' not in text + style
    assert client.get('/config').json()['analytics_enabled'] is False


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[tuple[subprocess.Popen, str, socket.socket]]:
    """Run the documented command; yield the process, its address, and a proxy for all others."""
    pytest.importorskip('gradio', reason=REASON)
    if sync_playwright is None or CHROMIUM is None:
        pytest.skip('needs playwright and Chromium')
    detector = make_detector(
        tmp_path, 'mask_rcnn_dsnet_t_fpn_1x_coco', 'dict(rcnn=dict(score_thr=0.0, max_per_img=9))'
    )
    program, name, _, _, *options = documented('docs/app.md', 'dsnet-mm app')
    assert program == 'dsnet-mm'
    (tmp_path / 'temporary').mkdir()
    with socket.create_server(('127.0.0.1', 0)) as proxy:
        asked = f'http://127.0.0.1:{proxy.getsockname()[1]}'
        proxies = dict.fromkeys(('http_proxy', 'https_proxy', 'all_proxy'), asked)
        command = [sys.executable, '-W', 'ignore', '-m', 'dsnet_mm', name, *map(str, detector)]
        with subprocess.Popen(
            [*command, *options, '--port', '0', '--score', '0.1', '--device', 'cpu'],
            cwd=ROOT,
            env={**os.environ, **proxies, 'TMPDIR': str(tmp_path / 'temporary')},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                # OneDL's mmpretrain prints lines of its own first
                lines = iter(process.stdout.readline, '')
                address = next(line for line in lines if line.startswith('http')).split()[0]
                yield process, address, proxy
            finally:
                process.kill()


def picture(path: Path, seed: int) -> str:
    """Write a picture of 6 x 8 colored squares; return its path."""
    image = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(image, (96, 72), interpolation=cv2.INTER_NEAREST))
    return str(path)


class Visitor:
    """Use the page in a browser window."""

    def __init__(self, browser, address: str) -> None:
        self.page = browser.new_context(viewport=dict(width=1280, height=900)).new_page()
        self.page.set_default_timeout(MILLISECONDS)
        self.asked: set[str] = set()
        self.errors: list[str] = []
        self.page.on('request', lambda request: self.asked.add(request.url))
        self.page.on('pageerror', lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def upload(self, path: str) -> None:
        self.page.locator('#photo input[type=file]').set_input_files(path)

    def wait(self, condition: str, *values: object) -> None:
        """Wait until a JavaScript condition holds, in which `values` are known."""
        self.page.wait_for_function(f'values => {condition}', arg=values)

    def source(self, part: str) -> str | None:
        image = self.page.locator(f'#{part} img')
        return image.first.get_attribute('src') if image.count() else None

    def changes(self, part: str, act: Callable[[], None]) -> None:
        """Act, and wait until a part of the page has another picture."""
        before = self.source(part)
        act()
        self.wait(
            '{ const image = document.querySelector(`#${values[0]} img`);'
            'return image?.getAttribute("src") && image.getAttribute("src") !== values[1]; }',
            part,
            before,
        )

    def objects(self) -> int:
        """Return the number of rows in the table."""
        return len(re.findall('|'.join(CLASSES), self.page.locator('#table').inner_text()))

    def detections(self) -> np.ndarray:
        """Return the middle of each square in the picture of the detections (6, 8, 3), BGR."""
        pixels = self.page.evaluate(
            """() => { const image = document.querySelector('#drawing img');
            const canvas = document.createElement('canvas');
            canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, canvas.width, canvas.height).data]; }"""
        )
        picture = np.array(pixels).reshape(480, 640, 4)[40::80, 40::80, 2::-1]
        return picture


@pytest.mark.slow
def test_two_visitors_detect_move_the_score_click_and_stop(server, tmp_path):
    """Use the page of a process; nobody asks another server for anything."""
    process, address, proxy = server
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        one, two = Visitor(browser, address), Visitor(browser, address)
        visit(one, two, tmp_path)
        browser.close()
    for visitor in (one, two):
        assert visitor.errors == []
        assert visitor.asked
        for url in visitor.asked:
            assert url.startswith((address, 'data:', f'blob:{address}')), url
    proxy.settimeout(0)
    with pytest.raises(BlockingIOError):
        proxy.accept()
    folder = tmp_path / 'temporary'
    assert list(folder.glob('dsnet-mm-*/*'))
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == 'stopped\n'
    assert process.returncode == 0
    assert list(folder.glob('dsnet-mm-*')) == []


def visit(one: Visitor, two: Visitor, folder: Path) -> None:
    """Do what visitors can do."""
    one.changes('drawing', lambda: one.upload(picture(folder / 'one.png', 1)))
    two.changes('drawing', lambda: two.upload(picture(folder / 'two.png', 2)))
    one.wait('/circle|square|star|triangle/.test(document.querySelector("#table").innerText)')
    assert one.objects() > 0
    one.wait('document.querySelectorAll("#maps img").length >= 4')

    # clicks move the cross, and another block has other maps
    for part, x in (('photo', 200), ('drawing', 300)):
        image = one.page.locator(f'#{part} img')
        one.changes('maps', lambda image=image, x=x: image.click(position=dict(x=x, y=100)))
    one.page.locator('#block input').click()
    option = one.page.get_by_role('option', name='stage 2, block 1')
    one.changes('maps', option.click)

    # at a score of 1, the picture of this visitor remains, without objects
    score = one.page.locator('#score input[type=number]')
    score.fill('1')
    one.changes('drawing', lambda: score.press('Enter'))
    one.wait('!/circle|square|star|triangle/.test(document.querySelector("#table").innerText)')
    original = cv2.imread(str(folder / 'one.png'))[6::12, 6::12].astype(int)
    assert np.abs(one.detections() - original).mean() < 20
    assert two.objects() > 0
    assert len(one.page.screenshot(path=folder / 'page.png', full_page=True)) > 10_000

    # a file that is no picture is refused in a sentence, and nothing remains of the last picture
    (folder / 'text.png').write_text('not a picture')
    one.page.locator('#photo').get_by_label('Remove Image').click()
    one.upload(str(folder / 'text.png'))
    one.page.get_by_text('text.png is not a picture; save it again as JPEG or PNG').wait_for()
    one.wait('!document.querySelector("#drawing img, #maps img")')
