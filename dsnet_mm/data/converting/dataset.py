"""Define what the VOC and YOLO readers share: splits, images and objects."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsnet_mm.data.file_finder import broken_links
from dsnet_mm.errors import UserError, counted

from .names import split_named, split_within

ALL = 'all'
"""Name of the only split of a dataset without splits."""

LAYOUTS = {
    'voc': (
        'an .xml file per image in the folder of the image, or in a folder such as Annotations '
        'beside the images; splits as lists in ImageSets/Main or as folders train, val and test'
    ),
    'yolo': (
        "a .txt file per image in the folder of the image, or in 'labels' beside 'images'; classes "
        'in data.yaml, classes.txt or obj.names; splits in data.yaml, in obj.data, as train.txt '
        'and val.txt, or as folders train, val and test'
    ),
}
"""Known layouts of each format."""


def such_as(things: Collection[Path | str]) -> str:
    """Return ', such as THING' for the first thing."""
    return f', such as {next(iter(things))}'


class LabelError(Exception):
    """Report a label file, or a line of a label file, that cannot be converted."""


@dataclass(frozen=True)
class Pair:
    """Hold an image and its label file, None if missing."""

    image: Path
    label: Path | None
    conflict: str = ''  # why it is unknown which image and label file belong together

    def name(self, root: Path) -> str:
        """Return the file name of the image relative to ``root``."""
        return Path(os.path.relpath(self.image, root)).as_posix()


@dataclass(frozen=True)
class Labels:
    """Hold the objects of a label file, and the faults of those that cannot be converted."""

    items: list[Item]
    faults: list[str]


@dataclass(frozen=True)
class Item:
    """Hold an object of an image, in pixels from the upper left corner of the image."""

    name: str  # of the class
    box: tuple[float, float, float, float]  # left, top, width, height
    polygons: tuple[tuple[float, ...], ...] = ()  # outlines [x, y, x, y, ...], if known
    crowd: bool = False  # training and evaluation ignore the object
    cut: bool = False  # the object was clipped at the edge of the image


@dataclass
class LabeledImage:
    """Hold an image with its objects."""

    pair: Pair
    size: tuple[int, int]  # width and height in pixels
    items: list[Item]


class Dataset(ABC):
    """Find the files of a dataset, and read its labels.

    Args:
        root: The folder of the dataset.
        classes: The classes in order; None for the classes of the dataset.

    Attributes:
        splits: The pairs of each split.
        remarks: Assumptions and omissions, as sentences without a full stop.

    Raises:
        UserError: If files are missing, or a file that describes the dataset is broken.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None) -> None:
        self.root = root
        self.classes = tuple(classes or ())
        self.splits: dict[str, list[Pair]] = {}
        self.remarks: list[str] = []
        for link in broken_links(root):
            if not link.suffix:
                raise UserError(
                    f'{link} is a symbolic link to {os.readlink(link)}, which does not exist; '
                    'correct or remove the link'
                )

    @abstractmethod
    def read(self, label: Path, image: Path, size: tuple[int, int]) -> Labels:
        """Read the objects of an image of ``size`` (width, height).

        Raises:
            LabelError: If nothing in the label file can be used.
        """

    @abstractmethod
    def finish(self, images: Iterable[LabeledImage]) -> None:
        """Complete the classes, the objects and the remarks after all label files are read."""

    def pairs(self) -> list[Pair]:
        """Return all pairs, without those that several splits repeat."""
        return list({pair.image: pair for split in self.splits.values() for pair in split}.values())

    def splits_of_folders(self, paths: Iterable[Path]) -> dict[str, list[Path]]:
        """Divide files of the dataset by the splits after which their folders are named.

        Folders that only contain the name of a split, such as obj_train_data, count if no folder
        has such a name and if they name several splits.
        """
        paths = list(paths)
        by_split, folders = self._divided(paths, split_named)
        if set(by_split) == {ALL}:
            by_word, folders_by_word = self._divided(paths, split_within)
            if len(set(by_word) - {ALL}) > 1:
                by_split, folders = by_word, folders_by_word
        self.remark_on_joined(folders)
        if ALL in by_split and len(by_split) > 1:
            stray = by_split[ALL]
            self.remarks.append(
                f'wrote {counted(len(stray), "file")} to {ALL}.json, because no folder of them is '
                f'named after a split{such_as(stray)}'
            )
        return by_split

    def divide_by(self, paths: Mapping[Path, Path]) -> None:
        """Divide a dataset without splits by the folders of other files, given by image."""
        if set(self.splits) != {ALL}:
            return
        by_split = self.splits_of_folders(dict.fromkeys(paths.values()))
        split_of = {path: split for split, members in by_split.items() for path in members}
        pairs = self.splits.pop(ALL)
        for pair in pairs:
            self.splits.setdefault(split_of[paths[pair.image]], []).append(pair)

    def _divided(
        self, paths: Sequence[Path], named: Callable[[str], str | None]
    ) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        """Return the files of each split, and the folders that name the split."""
        by_split: dict[str, list[Path]] = defaultdict(list)
        folders: dict[str, set[Path]] = defaultdict(set)
        for path in paths:
            parts = path.relative_to(self.root).parent.parts
            found = ((named(part), place) for place, part in enumerate(parts, 1))
            split, place = next(((name, at) for name, at in found if name), (ALL, 0))
            by_split[split].append(path)
            folders[split].add(self.root.joinpath(*parts[:place]))
        return dict(by_split), {split: sorted(places) for split, places in folders.items()}

    def remark_on_joined(self, sources: Mapping[str, Sequence[Path | str]]) -> None:
        """Remark which splits come from several folders or lists."""
        for split, places in sources.items():
            if len(places) > 1:
                self.remarks.append(
                    f'joined {" and ".join(map(str, places))} to one split, {split}.json'
                )

    def check_repeats(self) -> None:
        """Keep each image once in a split, and remark on images that are in several splits.

        Symbolic links to an image are the same image.
        """
        real = {pair.image: os.path.realpath(pair.image) for pair in self.pairs()}
        for split, pairs in self.splits.items():
            kept: dict[str, Pair] = {}
            for pair in pairs:
                known = kept.get(real[pair.image])
                kept[real[pair.image]] = _better(known, pair) if known else pair
            if repeated := len(pairs) - len(kept):
                images = [p.image for p in pairs if kept[real[p.image]].image != p.image]
                self.remarks.append(
                    f'used {counted(repeated, "image")} of {split} once that a list or a symbolic '
                    f'link repeats{such_as(images or [p.image for p in pairs])}'
                )
            self.splits[split] = list(kept.values())
        places: dict[str, dict[str, Path]] = defaultdict(dict)
        for split in (name for name in self.splits if name != 'trainval'):  # holds train and val
            for pair in self.splits[split]:
                places[real[pair.image]].setdefault(split, pair.image)
        shared: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for found in places.values():
            if len(found) > 1:
                shared[tuple(found)].append(next(iter(found.values())))
        for names, images in shared.items():
            self.remarks.append(
                f'{counted(len(images), "image is", "images are")} in several splits '
                f'({", ".join(names)}), so their AP is too high{such_as(images)}'
            )

    def check_shared_labels(self) -> None:
        """Mark the pairs whose label file may belong to several images."""
        images: dict[Path, list[Path]] = defaultdict(list)
        for pair in self.pairs():
            if pair.label:
                images[pair.label].append(pair.image)
        for split, pairs in self.splits.items():
            for place, pair in enumerate(pairs):
                rivals = images[pair.label] if pair.label else []
                if len(rivals) > 1 and not pair.conflict:
                    pairs[place] = replace(pair, conflict=may_belong(rivals))
            self.splits[split] = pairs


def may_belong(images: Sequence[Path]) -> str:
    """Return why a label file cannot be used that may belong to several images."""
    return f'it may belong to {images[0]} or to {images[1]}, one of which must be renamed or moved'


def _better(one: Pair, two: Pair) -> Pair:
    """Return the pair with a label file of two with the same image."""
    if not (one.label and two.label):
        return one if one.label else two
    if os.path.realpath(one.label) != os.path.realpath(two.label) and not _equal(
        one.label, two.label
    ):
        return replace(one, conflict=f'its image {one.image} has another label file {two.label}')
    return one


def _equal(one: Path, two: Path) -> bool:
    try:
        return one.read_bytes() == two.read_bytes()
    except OSError:
        return False
