"""Draw a small synthetic dataset for semantic segmentation, as mmsegmentation reads ADE20K."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image

from .shapes import METAINFO, draw_scene
from .shapes_drawing import encode_jpeg
from .shapes_folder import SPLITS, Counts, Progress, ShapesSet

SEGMENTATION_METAINFO: dict[str, Any] = dict(
    classes=('background', *METAINFO['classes']), palette=[(90, 90, 90), *METAINFO['palette']]
)
"""The ``metainfo`` of mmsegmentation's ``BaseSegDataset``, with ``reduce_zero_label=False``."""

_FOLDERS = dict(zip(SPLITS, ('training', 'validation'), strict=True))


@dataclass(frozen=True)
class ShapesSegmentation(ShapesSet):
    """Draw a synthetic dataset for semantic segmentation in the layout of ADE20K.

    ``images/{training,validation}`` has the images and ``annotations/{training,validation}`` the
    label maps, as PNG files with one channel. A pixel of a map is 0 in the background, which is a
    class of its own, or the number of the class of the visible object. Options and objects are
    those of :class:`.shapes.ShapesDetection`.
    """

    train: int = 400
    val: int = 100
    size: int = 96
    seed: int = 0

    task: ClassVar[str] = 'segmentation'
    stream: ClassVar[int] = 2
    entries: ClassVar[tuple[str, ...]] = ('images', 'annotations', 'shapes.json')
    record: ClassVar[str] = 'shapes.json'

    def files(self) -> list[str]:
        """Return every file of the dataset, relative to its root."""
        images = [file for image in self._images() for file in self._file_names(*image)]
        return [self.record, *images]

    def count(self, root: str | Path) -> Counts:
        """Count the images of the dataset in ``root``: by split, then by (class, 'images')."""
        counts = {}
        for split, folder in _FOLDERS.items():
            counts[split] = Counter(
                (SEGMENTATION_METAINFO['classes'][number], 'images')
                for path in Path(root, 'annotations', folder).glob('*.png')
                for number in np.unique(np.asarray(Image.open(path)))
            )
        return counts

    def sample(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw image ``index``, from 0, of ``split``.

        Returns:
            The uint8 BGR image (size, size, 3), and its uint8 label map (size, size).
        """
        image, labels, owner = draw_scene(self._random(split, index), self.size, index)
        numbers = np.array([0, *(label + 1 for label in labels)], np.uint8)
        return image, numbers[owner + 1]

    def _draw(self, folder: Path, progress: Progress) -> None:
        for kind in ('images', 'annotations'):
            for split in _FOLDERS.values():
                (folder / kind / split).mkdir(parents=True)
        for split, index in progress(self._images()):
            image, label_map = self.sample(split, index)
            image_name, map_name = self._file_names(split, index)
            (folder / image_name).write_bytes(encode_jpeg(image))
            (folder / map_name).write_bytes(cv2.imencode('.png', label_map)[1].tobytes())
        (folder / self.record).write_text(json.dumps(dict(info=self.info)))

    @staticmethod
    def _file_names(split: str, index: int) -> tuple[str, str]:
        name = f'{_FOLDERS[split]}/{index + 1:06d}'
        return f'images/{name}.jpg', f'annotations/{name}.png'
