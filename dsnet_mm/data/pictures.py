"""Images and videos to look at, read and written by OpenCV."""

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
    """Return the images that ``source``, a file or a folder with all below it, holds.

    Raises:
        UserError: If there are none.
    """
    source = Path(source)
    if source.is_dir():
        found = images_below(source, IMAGES)
        if not found:
            raise UserError(f'{source} holds no images; they end in {", ".join(IMAGES)}')
        return found
    if not source.is_file():
        raise UserError(f'{source} does not exist; give an image, a folder of images or a video')
    if source.suffix.lower() not in IMAGES:
        raise UserError(
            f'{source} is neither an image ({", ".join(IMAGES)}), nor a video '
            f'({", ".join(VIDEOS)}), nor a folder'
        )
    return [source]


def read_image(path: Path) -> np.ndarray:
    """Read an image, (H, W, 3), blue, green, red.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        image = mmcv.imread(str(path), channel_order='bgr')
    except (OSError, cv2.error):  # OpenCV fails over an empty file, and over too large an image
        image = None
    if image is None:
        raise UserError(f'{path} cannot be read as an image; remove it or store it anew')
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W, 3), blue, green, red, in the format of the path's ending.

    Raises:
        UserError: If the system does not allow it, or OpenCV does not write this format.
    """
    with written_whole(path) as draft:
        try:
            done = mmcv.imwrite(image, str(draft))
        except cv2.error:
            done = False
        if not done:
            raise UserError(
                f'OpenCV cannot write {path}; store the image that it is drawn on as PNG or JPEG'
            )


def write_video(path: Path, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write a video in the format MP4.

    Args:
        path: The file.
        frames: (H, W, 3) each, blue, green, red, all of one size; at least one.
        rate: Frames in a second.

    Raises:
        UserError: If the system does not allow it, or OpenCV writes no such videos.
    """
    frames = iter(frames)
    first = next(frames)
    with written_whole(path) as draft:
        code, size = cv2.VideoWriter_fourcc(*'mp4v'), first.shape[1::-1]
        writer = cv2.VideoWriter(str(draft), code, rate, size)
        if not writer.isOpened():
            raise UserError(
                f'OpenCV cannot write the video {path}; detect on its frames, stored as images, '
                'such as by ffmpeg'
            )
        try:
            for frame in itertools.chain([first], frames):
                writer.write(frame)
        finally:
            writer.release()


class Video:
    """The frames of a video file, which can be walked through once.

    Raises:
        UserError: If the file cannot be read, or holds no frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.capture = cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise UserError(f'{path} cannot be read as a video; store it anew, such as by ffmpeg')
        there, self._first = self.capture.read()
        if not there:
            raise UserError(f'{path} is a video without frames; store it anew, such as by ffmpeg')
        self.rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __len__(self) -> int:
        """Return the number of frames that the file tells, 0 if it tells none."""
        return max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, (H, W, 3), blue, green, red."""
        more, frame = True, self._first
        while more:
            yield frame
            more, frame = self.capture.read()
        self.capture.release()
