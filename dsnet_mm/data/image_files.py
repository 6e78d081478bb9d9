"""Check image files and read the sizes that mmdet gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

_ORIENTATION = 274  # EXIF tag
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_PLAIN = ('JPEG', 'MPO', 'PNG', 'BMP', 'WEBP', 'TIFF')  # OpenCV reads them if their depth is 8
_PNG_DEPTH = 24  # byte of a PNG file that holds the bits per channel
_TIFF_DEPTH = 258  # TIFF tag
_DARK = 64  # of 255; a decoded image below this brightness is hard to see
_TAIL = 64  # last bytes of a file that are searched for the end marker


class State(Enum):
    """State whether a file is readable as an image."""

    FINE = 'fine'
    MISSING = 'missing'
    BROKEN = 'broken'


@dataclass(frozen=True)
class ImageFile:
    """Hold the properties of an image file."""

    state: State
    size: tuple[int, int] = (0, 0)  # width and height that mmdet reads, after the EXIF rotation
    orientation: int = 1  # EXIF orientation, 1 without rotation
    reason: str = ''  # why the file cannot be read
    deep: bool = False  # more than 8 bits per channel, of which mmdet keeps the upper 8
    dark: bool = False  # a deep image that is nearly black in 8 bits
    animated: bool = False  # several pictures, of which mmdet reads the first


Progress = Callable[[Iterable[ImageFile], int], Iterable[ImageFile]]
"""Wraps the opened files; the second argument is their number."""


def open_images(
    paths: Sequence[str], decode: bool = False, progress: Progress | None = None
) -> Iterator[ImageFile]:
    """Open files as :func:`open_image` does, in parallel threads, and yield them in order."""
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
            if decode and known.state is State.FINE and not known.deep:
                return replace(_decode(file, known.orientation), animated=known.animated)
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
                return _decode(file, orientation)
            deep, animated = _is_deep(image, file), _is_animated(image)
            if deep or image.format not in _PLAIN:
                return replace(_decode(file, orientation, deep), animated=animated)
            size = image.size[::-1] if turned else image.size
            if not _ends(file, image.format):
                file.seek(0)
                with Image.open(file) as whole:
                    whole.load()
            return ImageFile(State.FINE, size, orientation, animated=animated)
    except UnidentifiedImageError:
        return ImageFile(State.BROKEN, reason='not an image' if file.seek(0, 2) else 'empty')
    except Image.DecompressionBombError:  # too large for Pillow but not for mmdet
        return _decode(file)
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


def _is_deep(image: Image.Image, file: BinaryIO) -> bool:
    """Return whether an image has more than 8 bits per channel."""
    if image.mode.startswith(('I', 'F')):
        return True
    if image.format == 'PNG':  # Pillow opens colors with 16 bits as RGB
        file.seek(_PNG_DEPTH)
        return file.read(1) > b'\x08'
    depths = image.tag_v2.get(_TIFF_DEPTH, ()) if isinstance(image, TiffImageFile) else ()
    return any(depth > 8 for depth in depths)


def _is_animated(image: Image.Image) -> bool:
    # phones store a second picture beside a JPEG
    return image.format != 'MPO' and bool(getattr(image, 'is_animated', False))


def _ends(file: BinaryIO, format_name: str | None) -> bool:
    """Return whether the file ends with the end marker of its format, which padding may hide."""
    if format_name not in ('JPEG', 'MPO', 'PNG'):
        return True
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _TAIL))
    tail = file.read()
    return b'IEND' in tail if format_name == 'PNG' else tail.rstrip(b'\0').endswith(b'\xff\xd9')


def _decode(file: BinaryIO, orientation: int = 1, deep: bool = False) -> ImageFile:
    file.seek(0)
    try:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return ImageFile(State.BROKEN, reason=' '.join(str(error).split()))
    if image is None:
        return ImageFile(State.BROKEN, reason='OpenCV, which mmdet uses, cannot decode the file')
    dark = deep and bool(np.percentile(image, 99.9) < _DARK)
    size = (image.shape[1], image.shape[0])
    return ImageFile(State.FINE, size, orientation, deep=deep, dark=dark)
