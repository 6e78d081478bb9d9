"""The published weight files of PaddleClas: their addresses, and the download."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dsnet_mm.errors import UserError
from dsnet_mm.version import __version__

from .safe_reader import MAX_BYTES

ARCHS = ('tiny', 'small', 'base')
PREFIX = 'dsnet://'
PADDLE_CLAS = 'https://paddle-imagenet-models-name.bj.bcebos.com/dygraph'
MIRROR = 'DSNET_MM_WEIGHTS_URL'  # environment variable: another folder with the same files
TIMEOUT = 30.0  # seconds without a byte from the server
CHUNK = 2**18  # bytes


class DownloadError(UserError):
    """A file cannot be downloaded; the message lacks the advice, which depends on the caller."""


def address_of(arch: str) -> str:
    """Return what a config writes for the weights of 'tiny', 'small' or 'base'."""
    return f'{PREFIX}{arch}_in1k'


def file_name(arch: str) -> str:
    """Return the published name of the weight file of 'tiny', 'small' or 'base'."""
    return f'DSNet_{arch}_pretrained.pdparams'


def url_of(arch: str) -> str:
    """Return the URL of a published file, at PaddleClas or at the mirror in ``MIRROR``."""
    return f'{(os.environ.get(MIRROR) or PADDLE_CLAS).rstrip("/")}/{file_name(arch)}'


def how_to_get(checkpoint: str) -> str:
    """Advise on a checkpoint file that is missing, according to its name."""
    folder, name = Path(checkpoint).parts[-2:-1], Path(checkpoint).name
    if folder == ('demo',) and re.fullmatch(r'epoch_\d+\.pth', name):
        return 'run `dsnet-mm demo`, which trains it'
    if re.fullmatch(r'dsnet_[tsb]_noalign_in1k\.pth', name):
        return (
            'nobody publishes weights without alignment; train them by `dsnet-mm train '
            f'configs/pretrain/{Path(name).stem}.py` and copy the last checkpoint there'
        )
    if re.fullmatch(r'glnet_\w+_in1k\.pth', name):
        model = name.removesuffix('_in1k.pth')
        return (
            f'download {model}.pth in a browser by the link in the README of rayleizhu/GLMix, and '
            f'run `dsnet-mm weights --from {model}.pth --out {checkpoint}`'
        )
    for arch in ARCHS:
        if name in (f'dsnet_{arch[0]}_in1k.pth', f'dsnet_{arch}_in1k.pth'):
            return f"set the checkpoint to '{address_of(arch)}', which is downloaded on first use"
    return f"correct the path, or use published weights, such as '{address_of('tiny')}'"


def download(url: str, target: Path, timeout: float = TIMEOUT) -> None:
    """Download a file over HTTP, with a progress bar.

    ``torch.hub.download_url_to_file`` has neither a time-out nor a size limit, and it accepts a
    file that is cut short.

    Args:
        url: Address, http or https.
        target: File to write. After an error it may hold a part of the file.
        timeout: Seconds to wait for the next byte of the server.

    Raises:
        DownloadError: If the server does not send the whole file.
        OSError: If ``target`` cannot be written.
    """
    with connect(url, timeout) as response, open(target, 'wb') as file:
        length = response.headers.get('Content-Length', '')
        total = int(length) if length.isdigit() else None
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(TextColumn(Path(url).name), *columns) as progress:
            bar = progress.add_task('', total=total)
            while chunk := read_chunk(response, url):
                file.write(chunk)
                progress.update(bar, completed=file.tell())
                if file.tell() > MAX_BYTES:
                    raise DownloadError(
                        f'{url} has more than {MAX_BYTES} bytes, which no DS-Net weight file has'
                    )
        if total is not None and file.tell() != total:
            raise DownloadError(
                f'the download of {url} broke off after {file.tell()} of {total} bytes'
            )


def connect(url: str, timeout: float) -> http.client.HTTPResponse:
    """Ask a server for a file, and return the answer if the answer is that file."""
    if not re.match(r'https?://', url):
        raise DownloadError(f'{url} does not begin with http:// or https://')
    headers = {'User-Agent': f'dsnet-mm/{__version__}', 'Accept-Encoding': 'identity'}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        raise DownloadError(f'the server answered {error.code} {error.reason} for {url}') from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, 'reason', error)
        raise DownloadError(f'{url} cannot be reached ({reason})') from error


def read_chunk(response: http.client.HTTPResponse, url: str) -> bytes:
    """Read the next bytes of an answer."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f'the download of {url} broke off ({error})') from error
