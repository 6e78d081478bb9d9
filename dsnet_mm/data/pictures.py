"""Read and write images and videos with OpenCV."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from dsnet_mm.errors import UserError
from dsnet_mm.files import written_whole

from .file_finder import WRITABLE, files_below

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


def find_images(source: str | Path) -> list[Path]:
    """Return the image file ``source``, or all images in the folder ``source`` and below.

    Raises:
        UserError: If there is no image.
    """
    source = Path(source)
    if source.is_dir():
        if found := files_below(source, WRITABLE):
            return found
        raise UserError(
            f'{source} contains no images; pass a folder with {", ".join(WRITABLE)} files'
        )
    if not source.is_file():
        raise UserError(f'{source} does not exist; pass an image, a folder of images or a video')
    if source.suffix.lower() not in WRITABLE:
        raise UserError(
            f'{source} is not supported; pass an image ({", ".join(WRITABLE)}), a video '
            f'({", ".join(VIDEOS)}) or a folder'
        )
    return [source]


def read_image(path: Path) -> np.ndarray:
    """Read a BGR image (H, W, 3).

    Raises:
        UserError: If the image cannot be read.
    """
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # OpenCV raises for empty files and too large images
        image = None
    if image is None:
        raise UserError(f'{path} cannot be read as an image; remove it or save it again')
    return image


def loses_a_side(error: BaseException) -> bool:
    """Return whether OpenCV reports a resize that rounds a side of an image to 0."""
    return 'inv_scale' in str(error)


def too_thin(image: np.ndarray) -> UserError:
    """Return the error for an image (H, W, 3) whose shorter side a resize rounds to 0."""
    height, width = image.shape[:2]
    return UserError(
        f'an image of {width}x{height} pixels has no pixel left along its shorter side after the '
        "resize of the detector's config; cut it to a less elongated image"
    )


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a BGR image (H, W, 3) in the format of the file extension.

    Raises:
        UserError: If the file is not writable, or OpenCV cannot write this format.
    """
    with written_whole(path) as draft:
        try:
            done, content = cv2.imencode(path.suffix, image)
        except cv2.error:
            done = False
        if not done:
            raise UserError(f'OpenCV cannot write {path}; save the input image as PNG or JPEG')
        draft.write_bytes(content.tobytes())


def write_video(path: Path, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write BGR frames (H, W, 3) of one size, at least one, as MP4 with ``rate`` per second.

    Raises:
        UserError: If the file is not writable, or OpenCV cannot write MP4.
    """
    frames = iter(frames)
    first = next(frames)
    with written_whole(path) as draft:
        code = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(draft), code, rate, first.shape[1::-1])
        if not writer.isOpened():
            raise UserError(
                f'OpenCV cannot write the video {path}; extract the frames as images, for example '
                'with ffmpeg, and pass their folder'
            )
        try:
            for frame in itertools.chain([first], frames):
                writer.write(frame)
        finally:
            writer.release()


class Video:
    """Iterate over the frames of a video file once.

    Raises:
        UserError: If the file cannot be read, or contains no frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.capture = cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise UserError(
                f'{path} cannot be read as a video; encode it again, for example with ffmpeg'
            )
        there, self._first = self.capture.read()
        if not there:
            raise UserError(
                f'{path} is a video without frames; encode it again, for example with ffmpeg'
            )
        self.rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __len__(self) -> int:
        """Return the number of frames according to the file, 0 if unknown."""
        return max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the BGR frames (H, W, 3)."""
        more, frame = True, self._first
        while more:
            yield frame
            more, frame = self.capture.read()
        self.capture.release()
