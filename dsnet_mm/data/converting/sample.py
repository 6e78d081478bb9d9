"""Define the data that the VOC and YOLO readers return: splits, images and objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ALL = 'all'
"""Name of the only split of a dataset without splits."""

_SPLITS = {
    'train': 'train',
    'training': 'train',
    'val': 'val',
    'valid': 'val',
    'validation': 'val',
    'test': 'test',
    'testing': 'test',
}


class LabelError(Exception):
    """Report a label file, or a line of a label file, that cannot be converted."""


@dataclass(frozen=True)
class Pair:
    """Hold an image and its label file.

    Attributes:
        image: The image.
        label: The label file, None if missing.
        rivals: Other images that may belong to the label file.
    """

    image: Path
    label: Path | None
    rivals: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Item:
    """Hold an object of an image.

    Attributes:
        name: The class.
        box: Left, top, width, height in pixels, from the upper left corner of the image.
        polygons: Outlines [x, y, x, y, ...] in pixels; empty if only the box is known.
        crowd: Whether training and evaluation ignore the object.
        cut: Whether the object was clipped at the edge of the image.
    """

    name: str
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...] = ()
    crowd: bool = False
    cut: bool = False


@dataclass
class Found:
    """Hold the files of a dataset.

    Attributes:
        splits: The pairs of each split.
        classes: The classes in order, None if the dataset does not list them.
        keypoints: Number of keypoint values that may follow a box.
        unlabeled: Images that are skipped because they have no label file.
    """

    splits: dict[str, list[Pair]] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    keypoints: int = 0
    unlabeled: list[Path] = field(default_factory=list)

    def add(self, split: str, pair: Pair) -> None:
        """Add a pair to a split."""
        self.splits.setdefault(split, []).append(pair)

    def pairs(self) -> list[Pair]:
        """Return all pairs, without those that several splits repeat."""
        return list({pair.image: pair for pairs in self.splits.values() for pair in pairs}.values())


@dataclass
class Labels:
    """Hold the content of label files.

    Attributes:
        items: The objects of each readable image.
        classes: The classes in order.
        faults: The reason for each label file that cannot be converted.
        remarks: Assumptions and omissions, as sentences without a full stop.
    """

    items: dict[Path, list[Item]]
    classes: tuple[str, ...]
    faults: dict[Path, str]
    remarks: tuple[str, ...] = ()


def split_of(path: Path) -> str:
    """Return the split after which a folder in ``path``, relative to the dataset, is named."""
    named = (_SPLITS.get(part.lower().removesuffix('2017')) for part in path.parent.parts)
    return next(filter(None, named), ALL)


def replace_folder(path: Path, old: tuple[str, ...], new: str) -> Path | None:
    """Rename the last folder of ``path`` that is in ``old`` to ``new``, or return None."""
    parts = list(path.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() in old:
            parts[place] = new
            return Path(*parts)
    return None
