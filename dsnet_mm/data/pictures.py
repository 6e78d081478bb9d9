"""Read and write images and videos with OpenCV."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import mmcv
import numpy as np

from dsnet_mm.errors import UserError
from dsnet_mm.files import written_whole

from .image_files import images_below

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')  # both read and written
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


def find_images(source: str | Path) -> list[Path]:
    """Return the image file ``source``, or all images in the folder ``source`` and below.

    Raises:
        UserError: If there is no image.
    """
    source = Path(source)
    if source.is_dir():
        found = images_below(source, IMAGES)
        if not found:
            raise UserError(
                f'{source} contains no images; pass a folder with {", ".join(IMAGES)} files'
            )
        return found
    if not source.is_file():
        raise UserError(f'{source} does not exist; pass an image, a folder of images or a video')
    if source.suffix.lower() not in IMAGES:
        raise UserError(
            f'{source} is not supported; pass an image ({", ".join(IMAGES)}), a video '
            f'({", ".join(VIDEOS)}) or a folder'
        )
    return [source]


def read_image(path: Path) -> np.ndarray:
    """Read a BGR image (H, W, 3).

    Raises:
        UserError: If the image cannot be read.
    """
    try:
        image = mmcv.imread(str(path), channel_order='bgr')
    except (OSError, cv2.error):  # OpenCV raises for empty files and too large images
        image = None
    if image is None:
        raise UserError(f'{path} cannot be read as an image; remove it or save it again')
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a BGR image (H, W, 3) in the format of the file extension.

    Raises:
        UserError: If the file is not writable, or OpenCV cannot write this format.
    """
    with written_whole(path) as draft:
        try:
            done = mmcv.imwrite(image, str(draft))
        except cv2.error:
            done = False
        if not done:
            raise UserError(f'OpenCV cannot write {path}; save the input image as PNG or JPEG')


def write_video(path: Path, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write an MP4 video.

    Args:
        path: The file.
        frames: At least one BGR frame (H, W, 3), all of one size.
        rate: Frames per second.

    Raises:
        UserError: If the file is not writable, or OpenCV cannot write MP4.
    """
    frames = iter(frames)
    first = next(frames)
    with written_whole(path) as draft:
        code, size = cv2.VideoWriter_fourcc(*'mp4v'), first.shape[1::-1]
        writer = cv2.VideoWriter(str(draft), code, rate, size)
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
