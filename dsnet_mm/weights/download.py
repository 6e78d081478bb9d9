"""Downloading a large file: shown, resumed where it broke off, and whole or not there."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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

CHUNK = 2**18  # bytes
Report = Callable[[int, 'int | None'], None]  # bytes received, bytes in all if known


class BrokenTransferError(Exception):
    """The connection ended before the file did."""


class Origin(NamedTuple):
    """What a part of a file is a part of.

    Attributes:
        url: Its address.
        version: The server's name of this version of it, '' if there is none.
        total: Its bytes in all, None if not known.
    """

    url: str = ''
    version: str = ''
    total: int | None = None


def download(
    url: str, target: Path, timeout: float = 30.0, tries: int = 5, pause: float = 2.0
) -> None:
    """Fetch a file over HTTP, with a progress bar.

    What has arrived is kept beside ``target`` as ``.part``, with a note of where it came from; a
    later call for the same address goes on from there if the server can and still has that
    version of the file, and starts again if not.

    Args:
        url: Address, http or https.
        target: File to write.
        timeout: Seconds to wait for the server.
        tries: How often to connect again without getting any further.
        pause: Seconds between two tries.

    Raises:
        UserError: If the server or the disk does not allow it.
    """
    if not re.match(r'https?://', url):
        raise UserError(f'{url} is no address that begins with http:// or https://; correct it')
    part = target.with_name(f'{target.name}.part')
    columns = (
        TextColumn(target.name),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Progress(*columns) as progress:
            bar = progress.add_task('', total=None)
            persist(
                url,
                part,
                timeout,
                tries,
                pause,
                lambda received, total: progress.update(bar, completed=received, total=total),
            )
        os.replace(part, target)
        note_of(part).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f'{target} cannot be written; free some space or choose another place '
            f'({error.strerror})'
        ) from error


def persist(url: str, part: Path, timeout: float, tries: int, pause: float, report: Report) -> None:
    """Connect until ``part`` is complete, or until it grew no further ``tries`` times."""
    failures, most = 0, 0
    while True:
        try:
            receive(url, part, timeout, report)
            return
        except BrokenTransferError as error:
            size = part.stat().st_size if part.exists() else 0
            failures = failures + 1 if size <= most else 0
            most = max(size, most)
            if failures >= tries:
                raise UserError(
                    f'the transfer of {url} breaks off every time ({error}); run the '
                    'same command again later to go on from there'
                ) from error
            time.sleep(pause)


def receive(url: str, part: Path, timeout: float, report: Report) -> None:
    """Connect once and append to ``part`` what it lacks."""
    origin = read_note(part)
    if origin.url != url:
        part.unlink(missing_ok=True)
        origin = Origin(url)
    have = part.stat().st_size if part.exists() else 0
    report(have, None)
    response = ask(origin, part, have, timeout)
    if response is None:
        return
    with response:
        start, total = body_range(response)
        if start not in (0, have):
            part.unlink()
            raise BrokenTransferError('the server sent another range')
        if start and None not in (total, origin.total) and total != origin.total:
            part.unlink()
            raise BrokenTransferError('it had become another file')
        note_of(part).write_text(json.dumps(Origin(url, version(response), total)))
        with open(part, 'ab' if start else 'wb') as file:
            received = start + copy(response, file, lambda count: report(start + count, total))
    if total is not None and received != total:
        raise BrokenTransferError(f'after {received} of {total} bytes')


def ask(origin: Origin, part: Path, have: int, timeout: float) -> http.client.HTTPResponse | None:
    """Ask for the file from byte ``have`` on; None if nothing lies behind it."""
    url = origin.url
    headers = {'User-Agent': f'dsnet-mm/{__version__}', 'Accept-Encoding': 'identity'}
    if have:
        headers['Range'] = f'bytes={have}-'
        if origin.version:  # then the whole file, if it is another one by now
            headers['If-Range'] = origin.version
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            if error.headers.get('Content-Range') == f'bytes */{have}':
                return None
            part.unlink()
            raise BrokenTransferError('it had become another file') from error
        raise UserError(
            f'the server answered {error.code} {error.reason} for {url}; fetch the '
            'file by hand and give it with --from'
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, 'reason', error)
        raise UserError(
            f'{url} cannot be reached ({reason}); check the connection and run the '
            'same command again, or fetch the file by hand and give it with --from'
        ) from error


def body_range(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where in the file the body begins, and how long the whole file is if the server says so."""
    span = re.match(r'bytes (\d+)-\d+/(\d+|\*)', response.headers.get('Content-Range', ''))
    if response.status == 206 and span:
        return int(span[1]), None if span[2] == '*' else int(span[2])
    length = response.headers.get('Content-Length', '')
    return 0, int(length) if length.isdigit() else None


def copy(response: http.client.HTTPResponse, file, report: Callable[[int], None]) -> int:
    """Write the body to a file and return its length; a broken body just ends."""
    count = 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (http.client.HTTPException, OSError) as error:
            raise BrokenTransferError(str(error)) from error
        if not chunk:
            return count
        file.write(chunk)
        count += len(chunk)
        report(count)


def version(response: http.client.HTTPResponse) -> str:
    """Return the server's name of this version of the file, '' if it gives none to rely on."""
    tag = response.headers.get('ETag', '')
    if tag.startswith('"'):  # a weak one does not speak of bytes
        return tag
    return response.headers.get('Last-Modified', '')


def note_of(part: Path) -> Path:
    """Where it is noted what a ``.part`` is a part of."""
    return part.with_name(f'{part.name}.json')


def read_note(part: Path) -> Origin:
    """Read what a ``.part`` is a part of; of nothing if that is not known."""
    try:
        return Origin(*json.loads(note_of(part).read_text()))
    except (OSError, ValueError, TypeError):
        return Origin()
