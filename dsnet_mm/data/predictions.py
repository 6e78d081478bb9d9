"""Draw the detections of any detector on images and videos, and collect them in COCO format."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from pycocotools import mask as rle
from rich.progress import track

from dsnet_mm.errors import UserError

from .class_colors import Color
from .class_fonts import GENERIC_FAMILIES, write_names
from .pictures import Video, read_image, write_image

# the look of mmdet's pictures
OPACITY = 0.8
LINE_WIDTH = 3  # points, and less in small images
CONTOUR_WIDTH = 2
FONT_SIZES = (6, 13)  # points, for small and large objects
LARGE = 30_000  # square pixels


@dataclass
class Detections:
    """Hold the N objects that were found on an image."""

    boxes: np.ndarray  # left, top, right, bottom in pixels (N, 4)
    scores: np.ndarray  # 0 to 1 (N,)
    labels: np.ndarray  # indices of classes (N,)
    masks: np.ndarray | None = None  # booleans (N, height, width)

    def __getitem__(self, places: np.ndarray) -> Detections:
        """Return some of the objects, by their indices or by booleans (N,)."""
        masks = None if self.masks is None else self.masks[places]
        return Detections(self.boxes[places], self.scores[places], self.labels[places], masks)

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield the objects as COCO annotations without ids and categories."""
        for index, (left, top, right, bottom) in enumerate(self.boxes.tolist()):
            annotation = dict(
                bbox=[left, top, right - left, bottom - top],
                area=(right - left) * (bottom - top),
                iscrowd=0,
                score=float(self.scores[index]),
            )
            if self.masks is not None:
                encoded = rle.encode(np.asfortranarray(self.masks[index], dtype=np.uint8))
                annotation['segmentation'] = dict(
                    size=list(encoded['size']), counts=encoded['counts'].decode('ascii')
                )
                annotation['area'] = float(rle.area(encoded))
            yield annotation


class Detector(Protocol):
    """Detect objects on images (H, W, 3) in blue, green, red, 0 to 255."""

    @property
    def classes(self) -> Sequence[str]:
        """The class names."""

    @property
    def palette(self) -> Sequence[Color]:
        """The color of each class in pictures."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the objects on an image.

        Raises:
            UserError: If the image is too thin to be resized.
        """


class Painter:
    """Draw detections with class names and scores, each class in its color.

    Attributes:
        warning: A sentence on class names without a font, or ''.
    """

    def __init__(self, classes: Sequence[str], palette: Sequence[Color]) -> None:
        self.names, families, self.warning = write_names(classes)
        self.families = [GENERIC_FAMILIES[0], *families]
        self.palette = np.array(palette)

    def __call__(self, image: np.ndarray, found: Detections) -> np.ndarray:
        """Return a copy of a BGR image (H, W, 3) with the detections drawn on it."""
        found = found[found.scores.argsort(kind='stable')]  # the highest score on top
        height, width = image.shape[:2]
        picture, contours = self._with_masks(image[..., ::-1], found)
        figure = Figure(frameon=False)
        # matplotlib rounds sizes down
        figure.set_size_inches((width + 0.01) / figure.dpi, (height + 0.01) / figure.dpi)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis('off')
        axes.imshow(picture, extent=(0, width, height, 0), interpolation='none', aspect='auto')
        left, top, right, bottom = found.boxes.T
        frames = np.stack([left, top, right, top, right, bottom, left, bottom], 1)
        widest = max((height * width) ** 0.5 // 90, 10) / 4
        colors = self.palette[found.labels] / 255
        for outlines, edges, thickness in (
            (frames.reshape(-1, 4, 2), colors, LINE_WIDTH),
            (contours, 'white', CONTOUR_WIDTH),
        ):
            axes.add_collection(
                PolyCollection(
                    list(outlines),
                    facecolors='none',
                    edgecolors=edges,
                    linewidths=min(thickness, widest),
                    alpha=OPACITY,
                ),
                autolim=False,
            )
        areas = (right - left) * (bottom - top)
        for x, y, area, label, score in zip(left, top, areas, found.labels, found.scores):
            axes.text(
                x + LINE_WIDTH,
                y + LINE_WIDTH,
                f'{self.names[label]}: {100 * score:.1f}',
                size=FONT_SIZES[int(area >= LARGE)],
                family=self.families,
                color=(200 / 255,) * 3,
                verticalalignment='top',
                bbox=dict(facecolor='black', alpha=OPACITY, pad=0.7, edgecolor='none'),
            )
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., 2::-1].copy()

    def _with_masks(
        self, image: np.ndarray, found: Detections
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return an image with colored masks, and the contours (M, 2) of the masks."""
        picture, contours = image.copy(), []
        for mask, label in zip(() if found.masks is None else found.masks, found.labels):
            color = OPACITY * self.palette[label]
            picture[mask] = (1 - OPACITY) * picture[mask] + color
            lines, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            contours += [line.reshape(-1, 2) for line in lines]
        return picture, contours


@dataclass
class CocoResults:
    """Detections in COCO format: images, categories, and annotations with scores."""

    # the categories are numbered from 1 in the order of the class names
    classes: Sequence[str]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, image: np.ndarray, found: Detections) -> None:
        """Add the detections on the image ``name``."""
        height, width = image.shape[:2]
        image_id = len(self.images) + 1
        self.images.append(dict(id=image_id, file_name=name, height=height, width=width))
        for label, annotation in zip(found.labels, found.annotations()):
            ids = dict(id=len(self.annotations) + 1, image_id=image_id, category_id=int(label) + 1)
            self.annotations.append(ids | annotation)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of a COCO JSON file."""
        categories = [dict(id=i, name=name) for i, name in enumerate(self.classes, start=1)]
        return dict(images=self.images, annotations=self.annotations, categories=categories)


def on_images(paths: Sequence[Path], root: Path, pictures: Path, detector: Detector,
              painter: Painter, results: CocoResults) -> int:  # fmt: skip
    """Detect on images and draw them; return the number of images that were skipped."""
    skipped = 0
    for path in track(paths, 'detecting'):
        try:
            image = read_image(path)
            found = _detect(detector, image, path)
        except UserError as error:
            if len(paths) == 1:
                raise
            print(f'skipped: {error}', file=sys.stderr)
            skipped += 1
            continue
        name = path.relative_to(root).as_posix()
        results.add(name, image, found)
        write_image(pictures / name, painter(image, found))
    return skipped


def _detect(detector: Detector, image: np.ndarray, path: Path) -> Detections:
    """Return the objects on an image; errors name its path."""
    try:
        return detector(image)
    except UserError as error:
        raise UserError(f'{path} cannot be used: {error}') from error


def on_frames(
    video: Video, detector: Detector, painter: Painter, results: CocoResults
) -> Iterator[np.ndarray]:
    """Detect on the frames of a video and yield them with the detections drawn."""
    for number, frame in enumerate(track(video, 'detecting', total=len(video) or None)):
        found = detector(frame)
        results.add(f'{number:06d}.jpg', frame, found)
        yield painter(frame, found)
