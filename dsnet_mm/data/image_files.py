"""Check image files and read the sizes that mmdet gets."""

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
_ORIENTATION = 274  # EXIF tag
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_TAIL = 64  # last bytes of a file that are searched for the end marker


class State(Enum):
    """State whether a file is readable as an image."""

    FINE = 'fine'
    MISSING = 'missing'
    BROKEN = 'broken'


@dataclass(frozen=True)
class ImageFile:
    """Hold the properties of an image file.

    Attributes:
        state: Whether the file can be read.
        size: Width and height in pixels as mmdet reads them, after the EXIF rotation.
        orientation: EXIF orientation, 1 without rotation.
        reason: Why the file cannot be read.
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
"""Wraps the opened files; the second argument is their number."""


def open_images(
    paths: Sequence[str], decode: bool = False, progress: Progress | None = None
) -> Iterator[ImageFile]:
    """Open files in parallel threads and yield the results in order.

    Args:
        paths: The files.
        decode: Whether to decode them, see :func:`open_image`.
        progress: Wraps the opened files to show the progress.
    """
    pool = ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0))))
    try:
        files = pool.map(lambda path: open_image(path, decode), paths)
        yield from progress(files, len(paths)) if progress else files
    finally:
        pool.shutdown(cancel_futures=True)


def open_image(path: str, decode: bool = False) -> ImageFile:
    """Read the header of an image file and check that the file is complete.

    Args:
        path: The file.
        decode: Whether to decode the whole file as mmdet does. The end of JPEG and PNG files is
            always checked; only decoding finds truncated files of other formats.
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
                # whether OpenCV rotates other formats depends on its version
                file.seek(0)
                return replace(_decode(file.read()), orientation=orientation)
            size = image.size[::-1] if turned else image.size
            if not _ends(file, image.format):
                file.seek(0)
                with Image.open(file) as whole:
                    whole.load()
            return ImageFile(State.FINE, size, orientation)
    except UnidentifiedImageError:
        return ImageFile(State.BROKEN, reason='not an image' if file.seek(0, 2) else 'empty')
    except Image.DecompressionBombError:  # too large for Pillow but not for mmdet
        file.seek(0)
        return _decode(file.read())
    # the errors that Pillow raises for broken files
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return ImageFile(State.BROKEN, reason=' '.join(str(error).split()))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation in the header; reading more would decode a PNG."""
    if 'exif' not in image.info and image.format != 'TIFF':
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF data rotates nothing
        return 1
    return orientation if orientation in range(1, 9) else 1


def _ends(file: BinaryIO, format_name: str | None) -> bool:
    """Return whether the file ends with the end marker of its format, which padding may hide."""
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
        return ImageFile(State.BROKEN, reason='OpenCV, which mmdet uses, cannot decode the file')
    return ImageFile(State.FINE, (image.shape[1], image.shape[0]))
