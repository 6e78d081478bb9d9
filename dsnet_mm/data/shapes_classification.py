"""Draw a small synthetic classification dataset: a folder per class, as mmpretrain reads it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from .shapes import METAINFO
from .shapes_drawing import coverage, draw_background, encode_jpeg, finish, paint, random_outline
from .shapes_folder import SPLITS, Counts, Progress, ShapesSet


@dataclass(frozen=True)
class ShapesClassification(ShapesSet):
    """Draw a synthetic classification dataset: ``{train,val}/<class>/*.jpg``.

    An image shows one object near its center. The square root of the object's area is 0.45 to 0.7
    of the image side, because smaller objects need far more training images. The classes
    alternate. :class:`ShapesSet` describes the options.
    """

    train: int = 400
    val: int = 100
    size: int = 64
    seed: int = 0

    task: ClassVar[str] = 'classification'
    stream: ClassVar[int] = 1
    entries: ClassVar[tuple[str, ...]] = (*SPLITS, 'shapes.json')
    record: ClassVar[str] = 'shapes.json'

    def files(self) -> list[str]:
        """Return every file of the dataset, relative to its root."""
        return [self.record] + [self._file_name(*image) for image in self._images()]

    def count(self, root: str | Path) -> Counts:
        """Count the images of the dataset in ``root``: by split, then by (class, 'images')."""
        return {
            split: Counter(
                (path.parent.name, 'images') for path in (Path(root) / split).glob('*/*.jpg')
            )
            for split in SPLITS
        }

    def sample(self, split: str, index: int) -> tuple[np.ndarray, int]:
        """Draw image ``index``, from 0, of ``split``.

        Returns:
            The uint8 BGR image (size, size, 3), and its class.
        """
        rng = self._random(split, index)
        image = draw_background(rng, self.size)
        label = index % len(METAINFO['classes'])
        side = rng.uniform(0.45, 0.7) * self.size
        center = rng.uniform(0.4, 0.6, 2) * self.size
        outline = random_outline(rng, METAINFO['classes'][label], side, center)
        paint(rng, image, coverage(outline, self.size))
        return finish(rng, image), label

    def _draw(self, folder: Path, progress: Progress) -> None:
        for split in SPLITS:
            for name in METAINFO['classes']:
                (folder / split / name).mkdir(parents=True)
        for split, index in progress(self._images()):
            image, _ = self.sample(split, index)
            (folder / self._file_name(split, index)).write_bytes(encode_jpeg(image))
        (folder / self.record).write_text(json.dumps(dict(info=self.info)))

    @staticmethod
    def _file_name(split: str, index: int) -> str:
        label = index % len(METAINFO['classes'])
        return f'{split}/{METAINFO["classes"][label]}/{index + 1:06d}.jpg'
