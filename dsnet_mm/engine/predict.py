"""Detections on images and videos of one's own, drawn and in COCO's form."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from pycocotools import mask as rle

from dsnet_mm.errors import UserError
from dsnet_mm.files import written_whole

from .checkpoint import check_fit, read_checkpoint

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


class Predictor:
    """A detector that draws what it finds.

    Args:
        cfg: The detector's config.
        checkpoint: Path of its checkpoint.
        score: Detections below this score are left out.
        device: Such as 'cpu' or 'cuda:0', by default the first GPU if there is one.

    Raises:
        UserError: If the checkpoint cannot be read or belongs to another model.
    """

    def __init__(
        self, cfg: Config, checkpoint: str, score: float = 0.3, device: str | None = None
    ) -> None:
        try:
            torch.zeros(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f'--device {device} is not of this machine; give cpu, or cuda:0 for a GPU'
            ) from error
        weights = read_checkpoint(checkpoint)
        if cfg.get('default_scope') != 'mmdet' or 'test_dataloader' not in cfg:
            raise UserError(f'{cfg.filename} is not of a detector; give one of RetinaNet or such')
        with contextlib.redirect_stdout(io.StringIO()):  # mmengine prints the checkpoint's path
            self.inferencer = DetInferencer(cfg, checkpoint, device=device, show_progress=False)
        check_fit(self.inferencer.model, weights['state_dict'], checkpoint)
        self.score = score

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes, those of the checkpoint."""
        return self.inferencer.model.dataset_meta['classes']

    def __call__(self, image: np.ndarray) -> tuple[DetDataSample, np.ndarray]:
        """Detect objects on an image.

        Args:
            image: (H, W, 3), blue, green, red, 0 to 255.

        Returns:
            The detections, and a copy of the image with them drawn on it.
        """
        found = self.inferencer(image, return_datasamples=True)['predictions'][0].cpu()
        found.pred_instances = found.pred_instances[found.pred_instances.scores >= self.score]
        visualizer = self.inferencer.visualizer
        visualizer.add_datasample(
            'prediction',
            mmcv.bgr2rgb(image),
            found,
            draw_gt=False,
            show=False,
            pred_score_thr=self.score,
        )
        return found, mmcv.rgb2bgr(visualizer.get_image())


@dataclass
class CocoResults:
    """Detections in COCO's form: images, categories, and annotations with scores.

    Attributes:
        classes: The names of the classes; the categories are numbered from 1 on in their order.
    """

    classes: Sequence[str]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, found: DetDataSample) -> None:
        """Add what was found on the image ``name``."""
        height, width = found.ori_shape
        image_id = len(self.images) + 1
        self.images.append(dict(id=image_id, file_name=name, height=height, width=width))
        instances = found.pred_instances
        for index in range(len(instances)):
            left, top, right, bottom = instances.bboxes[index].tolist()
            annotation = dict(
                id=len(self.annotations) + 1,
                image_id=image_id,
                category_id=int(instances.labels[index]) + 1,
                bbox=[left, top, right - left, bottom - top],
                area=(right - left) * (bottom - top),
                iscrowd=0,
                score=float(instances.scores[index]),
            )
            if 'masks' in instances:
                mask = np.asfortranarray(instances.masks[index].numpy(), dtype=np.uint8)
                encoded = rle.encode(mask)
                annotation['segmentation'] = dict(
                    size=list(encoded['size']), counts=encoded['counts'].decode('ascii')
                )
                annotation['area'] = float(rle.area(encoded))
            self.annotations.append(annotation)

    def as_dict(self) -> dict[str, Any]:
        """Return what a JSON file of COCO holds."""
        categories = [dict(id=i, name=name) for i, name in enumerate(self.classes, start=1)]
        return dict(images=self.images, annotations=self.annotations, categories=categories)


def find_images(source: str | Path) -> list[Path]:
    """Return the images that ``source``, a file or a folder with all below it, holds.

    Raises:
        UserError: If there are none.
    """
    source = Path(source)
    if source.is_dir():
        found = sorted(
            path
            for path in source.rglob('*')
            if path.suffix.lower() in IMAGES and not path.is_dir()
        )
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
