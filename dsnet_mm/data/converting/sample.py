"""What the readers of foreign formats hand on: images with objects, sorted into splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ALL = 'all'
"""The split of a set that is not divided."""

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
    """A label file, or a line of it, that cannot be converted; the message says why."""


@dataclass(frozen=True)
class Pair:
    """An image and the file of its labels.

    Attributes:
        image: The image.
        label: The file, None where there is none.
        rivals: Other images that the file may be for just as well.
    """

    image: Path
    label: Path | None
    rivals: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Item:
    """An object of an image.

    Attributes:
        name: Its class.
        box: Left, top, width, height in pixels, from the left upper corner of the image.
        polygons: Outlines [x, y, x, y, ...] in pixels; none where only the box is known.
        crowd: Whether training and evaluation are to pass over it.
        cut: Whether it reached over the edge of the image, where it is cut off.
    """

    name: str
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...] = ()
    crowd: bool = False
    cut: bool = False


@dataclass
class Found:
    """The files of a set.

    Attributes:
        splits: The pairs of each split.
        classes: The classes in their order, None if the set does not name them.
        keypoints: How many numbers of keypoints may follow a box.
        unlabelled: Images beside those of the set that no label file is for, and that are left
            out therefore.
    """

    splits: dict[str, list[Pair]] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    keypoints: int = 0
    unlabelled: list[Path] = field(default_factory=list)

    def add(self, split: str, pair: Pair) -> None:
        """Add a pair to a split."""
        self.splits.setdefault(split, []).append(pair)

    def pairs(self) -> list[Pair]:
        """All pairs, those of several splits once."""
        return list({pair.image: pair for pairs in self.splits.values() for pair in pairs}.values())


@dataclass
class Labels:
    """What was read from label files.

    Attributes:
        items: The objects of each image that could be read.
        classes: The classes in their order.
        faults: Why label files cannot be converted.
        remarks: What was assumed, in sentences without their full stops.
    """

    items: dict[Path, list[Item]]
    classes: tuple[str, ...]
    faults: dict[Path, str]
    remarks: tuple[str, ...] = ()


def split_of(path: Path) -> str:
    """The split that a folder in ``path``, relative to the set, names: ``valid`` is ``val``."""
    named = (_SPLITS.get(part.lower().removesuffix('2017')) for part in path.parent.parts)
    return next(filter(None, named), ALL)


def replace_folder(path: Path, old: tuple[str, ...], new: str) -> Path | None:
    """``path`` with the last of its folders that is called ``old`` called ``new`` instead."""
    parts = list(path.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() in old:
            parts[place] = new
            return Path(*parts)
    return None
