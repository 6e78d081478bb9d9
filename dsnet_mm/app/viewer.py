"""Detect objects in an uploaded picture once, and draw what a visitor chooses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dsnet_mm.analysis.block_maps import Tensors
from dsnet_mm.analysis.streams import (
    block_numbers,
    covered,
    find_block,
    notes,
    panels,
    read,
    record,
)
from dsnet_mm.data.pictures import read_image
from dsnet_mm.data.predictions import Detections, Painter
from dsnet_mm.engine.predict import Predictor, detections_of
from dsnet_mm.errors import UserError, counted

LOWEST_SCORE = 0.05
"""Detections below this score are never shown."""
MAX_PIXELS = 25_000_000
"""Larger pictures are refused: Mask R-CNN keeps up to 100 masks as large as the picture."""
SHOWN_SIDE = (640, 800)
"""The longer side of shown pictures, at least and at most, in pixels."""

Panel = tuple[np.ndarray, str]


@dataclass(frozen=True)
class View:
    """Hold the picture of one visitor, with everything that depends on picture and block only."""

    image: np.ndarray  # as uploaded, blue, green, red
    shown: np.ndarray  # in the size of the page
    found: Detections  # in pixels of `shown`
    covered: tuple[float, float]  # fractions of the maps that the picture covers
    block: tuple[int, int] | None  # stage and block number
    tensors: Tensors  # of the block

    @property
    def zoom(self) -> np.ndarray:
        """Shown pixels per uploaded pixel: horizontally, vertically."""
        return np.divide(self.shown.shape[1::-1], self.image.shape[1::-1])


class Viewer:
    """Detect and draw with one detector. One call may run at a time.

    Args:
        predictor: The detector, which keeps detections from LOWEST_SCORE.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.painter = Painter(predictor.classes, predictor.palette)
        self.backbone = predictor.inferencer.model.backbone
        self.blocks = block_numbers(self.backbone)
        self.notes = notes(self.backbone)

    @property
    def summary(self) -> str:
        """Describe the detector in one line."""
        model = type(self.predictor.inferencer.model).__name__
        classes = counted(len(self.predictor.classes), 'class', 'classes')
        return f'{model} with the backbone {type(self.backbone).__name__}, {classes}'

    def view(self, image: np.ndarray, block: tuple[int, int] | None) -> View:
        """Run the detector on a picture (H, W, 3), and keep the tensors of a block."""
        tensors: Tensors = {}
        if block is None:
            found = self.predictor.sample(image)
        else:
            found, tensors = record(
                find_block(self.backbone, *block), lambda: self.predictor.sample(image)
            )
        height, width = image.shape[:2]
        least, most = SHOWN_SIDE
        zoom = min(max(height, width, least), most) / max(height, width)
        size = max(1, round(width * zoom)), max(1, round(height * zoom))
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        shown = cv2.resize(image, size, interpolation=way)
        resized = _resized(detections_of(found), np.divide(size, (width, height)), size)
        return View(image, shown, resized, covered(found), block, tensors)

    def detections(self, view: View, score: float) -> tuple[np.ndarray, list[list[str | float]]]:
        """Return the picture (RGB) with the detections from ``score``, and a row for each.

        A row has the class, the score, and left, top, right and bottom in uploaded pixels.
        """
        found = view.found[view.found.scores >= score]
        found = found[np.argsort(-found.scores, kind='stable')]
        boxes = found.boxes / np.tile(view.zoom, 2)
        rows = [
            [self.predictor.classes[label], round(value, 2), *(round(side, 1) for side in box)]
            for label, value, box in zip(found.labels, found.scores.tolist(), boxes.tolist())
        ]
        return self.painter(view.shown, found)[..., ::-1], rows

    def maps(self, view: View, pixel: tuple[int, int] | None) -> list[Panel]:
        """Return the maps of the block for a shown pixel (x, y), by default the center."""
        if view.block is None:
            return []
        image = cv2.cvtColor(view.shown, cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        x, y = pixel or (width // 2, height // 2)
        place = y / height * view.covered[0], x / width * view.covered[1]
        maps = read(find_block(self.backbone, *view.block), view.tensors, place)
        drawn = panels(image, maps, view.covered)
        for panel in drawn.values():
            for color, thickness in ((0, 0, 0), 5), ((0, 255, 255), 2):  # visible on all colors
                cv2.drawMarker(panel, (x, y), color, cv2.MARKER_CROSS, 28, thickness)
        return [(panel, title) for title, panel in drawn.items()]


def read_upload(path: Path) -> np.ndarray:
    """Read a picture as `dsnet-mm predict` does.

    Raises:
        UserError: If the picture cannot be read or is too large. The sentence has no folder.
    """
    limit = f'the limit is {MAX_PIXELS // 10**6} million pixels; make the picture smaller'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as header:  # reads no pixels
                width, height = header.size
    except Image.DecompressionBombError as error:
        raise UserError(f'{path.name} is too large: {limit}') from error
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UserError(f'{path.name} is not a picture; save it again as JPEG or PNG') from error
    if width * height > MAX_PIXELS:
        raise UserError(f'{path.name} has {width}x{height} pixels: {limit}')
    try:
        return read_image(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error


def _resized(found: Detections, zoom: np.ndarray, size: tuple[int, int]) -> Detections:
    """Return detections in a picture of another width and height."""
    masks = None
    if found.masks is not None:
        masks = np.zeros((len(found.masks), *size[::-1]), bool)
        for mask, resized in zip(found.masks, masks):
            resized[:] = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return Detections(found.boxes * np.tile(zoom, 2), found.scores, found.labels, masks)
