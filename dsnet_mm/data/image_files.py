"""Image files: whether they can be read, and how large mmdet finds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.ppm', '.jp2')
_ORIENTATION = 274  # tag of EXIF
_TURNED = (5, 6, 7, 8)  # its values that exchange width and height
_TAIL = 64  # bytes at the end of a file in which its end is looked for


class State(Enum):
    """What became of opening a file."""

    FINE = 'fine'
    MISSING = 'missing'
    BROKEN = 'broken'


@dataclass(frozen=True)
class ImageFile:
    """What is known of an image file.

    Attributes:
        state: Whether it can be read.
        size: Width and height in pixels as mmdet reads it, which is after the turn that EXIF
            asks for.
        orientation: EXIF's orientation, 1 where nothing is turned.
        reason: Why it cannot be read.
    """

    state: State
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    reason: str = ''


def images_below(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Return the image files in a folder and its subfolders, in order."""
    return sorted(
        path for path in folder.rglob('*') if path.suffix.lower() in suffixes and path.is_file()
    )


Progress = Callable[[Iterable[ImageFile], int], Iterable[ImageFile]]
"""Wraps the opened files, of which there are as many as the second argument says."""


def open_images(
    paths: Sequence[str], decode: bool = False, progress: Progress | None = None
) -> Iterator[ImageFile]:
    """Open the files in their order, several at once: a disk or a decoder needs no lock of Python.

    Args:
        paths: The files.
        decode: Whether to decode them, see :func:`open_image`.
        progress: Shows how far the work is.
    """
    pool = ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0))))
    try:
        files = pool.map(lambda path: open_image(path, decode), paths)
        yield from progress(files, len(paths)) if progress else files
    finally:
        pool.shutdown(cancel_futures=True)


def open_image(path: str, decode: bool = False) -> ImageFile:
    """Look into an image file: its header and whether its end is there.

    Args:
        path: The file.
        decode: Whether to decode all of it, as mmdet does. The end of JPEG and PNG files is
            looked at in any case; only decoding shows that other formats were cut off.
    """
    try:
        with open(path, 'rb') as file:
            known = _read_header(file)
            if decode and known.state is State.FINE:
                file.seek(0)
                return replace(_decode(file.read()), orientation=known.orientation)
            return known
    except FileNotFoundError:
        return ImageFile(State.MISSING)
    except OSError as error:
        return ImageFile(State.BROKEN, reason=error.strerror or str(error))


def _read_header(file: BinaryIO) -> ImageFile:
    try:
        with Image.open(file) as image:
            orientation = _orientation(image)
            turned = orientation in _TURNED
            if turned and image.format not in ('JPEG', 'MPO'):
                # which other formats OpenCV turns depends on its version
                file.seek(0)
                return replace(_decode(file.read()), orientation=orientation)
            size = image.size[::-1] if turned else image.size
            if not _ends(file, image.format):
                file.seek(0)
                with Image.open(file) as whole:
                    whole.load()
            return ImageFile(State.FINE, size, orientation)
    except UnidentifiedImageError:
        return ImageFile(State.BROKEN, reason='no image' if file.seek(0, 2) else 'empty')
    except Image.DecompressionBombError:  # too large for Pillow, not for mmdet
        file.seek(0)
        return _decode(file.read())
    # what Pillow's readers raise over broken files
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return ImageFile(State.BROKEN, reason=' '.join(str(error).split()))


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, as far as the header tells; asking a PNG for more decodes it."""
    if 'exif' not in image.info and image.format != 'TIFF':
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF that Pillow cannot make out turns nothing
        return 1
    return orientation if orientation in range(1, 9) else 1


def _ends(file: BinaryIO, format_name: str | None) -> bool:
    """Whether the file ends as its format does; bytes may follow the end, so no is a maybe."""
    if format_name not in ('JPEG', 'MPO', 'PNG'):
        return True
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _TAIL))
    tail = file.read()
    return b'IEND' in tail if format_name == 'PNG' else tail.rstrip(b'\0').endswith(b'\xff\xd9')


def _decode(content: bytes) -> ImageFile:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return ImageFile(State.BROKEN, reason=' '.join(str(error).split()))
    if image is None:
        return ImageFile(State.BROKEN, reason='OpenCV, with which mmdet reads, cannot decode it')
    return ImageFile(State.FINE, (image.shape[1], image.shape[0]))
