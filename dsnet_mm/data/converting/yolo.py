"""Read datasets with a text file per image, as in YOLO and Darknet."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from dsnet_mm.data.file_finder import IMAGES, Counterparts, files_below
from dsnet_mm.data.text_files import read_lines, read_text
from dsnet_mm.errors import UserError, counted

from .class_lists import (
    NAME_FILES,
    agreed_classes,
    check_number,
    find_class_lists,
    read_yaml,
    yaml_classes,
)
from .dataset import LAYOUTS, Dataset, Item, LabeledImage, LabelError, Labels, Pair, such_as
from .names import SPLITS, nearest, resolve, split_named

_IMAGE_FOLDERS = ('images', 'jpegimages', 'image', 'img', 'imgs')
_LABEL_FOLDERS = ('labels', 'label', 'annotations', 'annots', 'txt')
_OVER = 0.01  # share of the image by which a coordinate may exceed the edge; it is clipped there


class YoloDataset(Dataset):
    """Read a YOLO dataset.

    Splits and names come from ``data.yaml``, or from Darknet's ``obj.data``. Without these files,
    the splits come from lists such as ``train.txt`` or from the names of folders, and the class
    names from ``classes.txt`` or ``obj.names``.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None) -> None:
        super().__init__(root, classes)
        self._labels = Counterparts(('.txt',), _IMAGE_FOLDERS, _LABEL_FOLDERS)
        lists = find_class_lists(root, self.remarks)
        yamls = _find_yamls(root)
        self._file = next(iter(yamls), None)
        self._settings = yamls[self._file] if self._file else {}
        self._keypoints = self._yaml_keypoints()
        for file, settings in yamls.items():
            if names := yaml_classes(file, settings):
                lists = {file: names, **lists}
        images = files_below(root, IMAGES)
        self._stems = {path.stem for path in images}
        self._texts = [p for p in files_below(root, ('.txt',)) if p not in lists]
        self._lists: list[Path] = []  # of images
        self._empty: list[Path] = []  # label files with empty lines
        splits = self._from_yaml()
        others = files_below(root, ('.data',)) if splits else []
        splits = splits or self._from_darknet(lists) or self._from_lists()
        if splits:
            self._remark_on_other_lists(others)
            used = {path.resolve() for paths in splits.values() for path in paths}
            if unused := [path for path in images if path.resolve() not in used]:
                self.remarks.append(
                    f'left out {counted(len(unused), "image")} outside the splits of the dataset'
                    f'{such_as(unused)}'
                )
        else:
            splits = self.splits_of_folders(images)
        for split, paths in splits.items():
            self.splits[split] = [self._pair(path) for path in paths]
        self.check_repeats()
        self._match_elsewhere()
        self.divide_by({pair.image: pair.label or pair.image for pair in self.pairs()})
        self.check_shared_labels()
        pairs = self.pairs()
        if not any(pair.label for pair in pairs):
            raise UserError(
                f'{root} contains {counted(len(pairs), "image")} but no text file for them; pass '
                f'the folder of a YOLO dataset: {LAYOUTS["yolo"]}'
            )
        self.classes = agreed_classes(lists, self.classes, self.remarks)
        if not self.classes:
            raise UserError(
                'the dataset does not list its classes; add a data.yaml or classes.txt to its '
                'folder or pass --classes NAME ...'
            )

    def _pair(self, image: Path) -> Pair:
        """Return an image with its text file, in ``labels`` beside ``images`` or beside the image.

        For a symbolic link, the places beside its target are searched too. The text file is None if
        it is missing.
        """
        found: list[Path] = []
        for way in (lambda: image, image.resolve):
            place = way()
            for folder in (*self._labels.folders(place.parent), place.parent):
                files = self._labels.files(folder).get(place.stem, [])
                found += [file for file in files if file.name.lower() not in NAME_FILES]
            if found:
                break
        others = [p for p in found[1:] if p.resolve() != found[0].resolve() and _is_labels(p)]
        if other := next((path for path in others if _text(path) != _text(found[0])), None):
            return Pair(
                image, found[0], f'{other} has other labels for {image}; remove one of both'
            )
        return Pair(image, found[0] if found else None)

    def _match_elsewhere(self) -> None:
        """Find the text files of images in folders of any name, if only one can be meant."""
        pairs = self.pairs()
        taken = {pair.label.resolve() for pair in pairs if pair.label}
        free: dict[str, list[Path]] = {}
        for path in self._texts:
            if path.resolve() not in taken and _is_labels(path):
                free.setdefault(path.stem.casefold(), []).append(path)
        lost: dict[str, list[Path]] = {}
        for pair in pairs:
            stem = pair.image.stem.casefold()
            if not pair.label and stem in free:
                lost.setdefault(stem, []).append(pair.image)
        found = {}
        for stem, images in lost.items():
            for image in images:
                labels = [
                    label
                    for label in nearest(image, free[stem], self.root)
                    if image in nearest(label, images, self.root)
                ]
                for other in labels[1:]:
                    reason = f'{other} may hold the labels of {image} too; remove one of both'
                    found[image] = Pair(image, labels[0], reason)
                if len(labels) == 1:
                    found[image] = Pair(image, labels[0])
        for split, members in self.splits.items():
            self.splits[split] = [found.get(pair.image, pair) for pair in members]
        if sure := [pair for pair in found.values() if not pair.conflict]:
            self.remarks.append(
                f'found the text files of {counted(len(sure), "image")} by name in other folders, '
                f'such as {sure[0].label} for {sure[0].image}'
            )

    def read(self, label: Path, image: Path, size: tuple[int, int]) -> Labels:
        """Read a text file whose lines are a class and a box, or a class and a polygon."""
        try:
            lines = read_text(label).rstrip().splitlines()
        except UserError as error:
            raise LabelError(
                f'it is not readable as UTF-8 text ({str(error).removeprefix(f"{label} ")})'
            ) from error
        items, faults = [], []
        for number, line in enumerate(lines, 1):
            try:
                if words := line.partition('#')[0].split():
                    items.append(_item(words, size, self.classes, self._keypoints))
                elif not line.strip():
                    self._empty.append(label)
            except LabelError as error:
                faults.append(f'line {number}: {error}')
        return Labels(items, faults)

    def finish(self, images: Iterable[LabeledImage]) -> None:
        """Remark how many files and objects the conversion changed or ignored."""
        images = list(images)
        if bare := [image.pair.image for image in images if image.pair.label is None]:
            self.remarks.append(
                f'treated {counted(len(bare), "image")} without a text file as without objects'
                f'{such_as(bare)}'
            )
        if cut := [image.pair.image for image in images for item in image.items if item.cut]:
            self.remarks.append(
                f'clipped {counted(len(cut), "object")} at the edge of the image, such as one in '
                f'{cut[0]}'
            )
        if self._empty:
            self.remarks.append(
                f'ignored {counted(len(self._empty), "empty line")} in text files'
                f'{such_as(self._empty)}'
            )
        labels = {pair.label.resolve() for pair in self.pairs() if pair.label}
        folders = {label.parent for label in labels}
        lost = [
            path
            for path in self._texts
            if path not in self._lists
            and path.resolve() not in labels
            and path.stem not in self._stems
            and not path.name.lower().startswith('readme')
            and not (split_named(path.stem) and not _is_labels(path))
            and (path.resolve().parent in folders or _is_labels(path))
        ]
        if lost:
            self.remarks.append(
                f'ignored {counted(len(lost), "text file")} without an image{such_as(lost)}'
            )

    # ---- splits

    def _from_yaml(self) -> dict[str, list[Path]]:
        splits = {}
        for split in SPLITS:
            keys = [key for key in self._settings if split_named(key) == split]
            if len(keys) > 1:
                self.remark_on_joined({split: keys})
            entries = [entry for key in keys for entry in _entries(self._settings[key])]
            images: list[Path] = []
            for entry in entries:
                if place := self._resolve(split, entry):
                    images += self._images_at(place)
            if entries and not images and split != 'test':
                raise UserError(f"'{split}' in {self._file} leads to no image; correct the path")
            if images:
                splits[split] = images
        return splits

    def _resolve(self, split: str, entry: str) -> Path | None:
        """Return the path of an entry, or None if it does not exist and is not needed.

        The ``path`` of a dataset that was moved, and a wrong ``../`` of some exporters, do not
        exist; the folder of the dataset is tried then.
        """
        assert self._file is not None
        own = str(self._settings.get('path') or '').replace('\\', '/')
        bases = [self._file.parent / own, self._file.parent, self.root]
        place = resolve(entry, bases)
        if place is None:
            sentence = f"'{split}' in {self._file} is {entry!r}, which does not exist"
            if split != 'test':  # often listed but not shipped
                raise UserError(f'{sentence}; write the path relative to this file')
            self.remarks.append(f'{sentence}, so no {split}.json is written')
            return None
        if entry.startswith('..') and not own:
            inside = resolve(entry.replace('../', ''), [self.root])
            if inside and inside.resolve() != place.resolve():
                raise UserError(
                    f"'{split}' in {self._file} may be {place} or {inside}; write the path "
                    'relative to this file'
                )
        if place.resolve() != (bases[0] / entry).resolve():
            self.remarks.append(f"read '{split}: {entry}' of {self._file} as {place}")
        return place

    def _from_darknet(self, lists: dict[Path, tuple[str, ...]]) -> dict[str, list[Path]]:
        """Return the images of the splits of the file obj.data, or of one with the same suffix."""
        splits: dict[str, list[Path]] = {}
        sources: dict[str, list[Path]] = {}
        for file in files_below(self.root, ('.data',)):
            lines = (line.partition('#')[0].partition('=') for line in read_lines(file))
            settings = {key.strip().lower(): value.strip() for key, _, value in lines}
            bases = [file.parent, self.root]
            names = resolve(settings.get('names') or 'obj.names', bases)
            if names in lists:
                check_number(file, "'classes'", settings.get('classes'), lists[names])
            for key, value in settings.items():
                split = split_named(key)
                if not split or not value:
                    continue
                place = resolve(value, bases)
                if place is None:
                    raise UserError(
                        f"'{key}' in {file} is {value!r}, which does not exist; correct the path"
                    )
                sources.setdefault(split, []).append(place)
                splits.setdefault(split, []).extend(self._images_at(place))
        self.remark_on_joined({split: list(dict.fromkeys(s)) for split, s in sources.items()})
        return splits

    def _from_lists(self) -> dict[str, list[Path]]:
        """Return the images of lists that are named after splits, such as train.txt."""
        splits: dict[str, list[Path]] = {}
        sources: dict[str, list[Path]] = {}
        for file in self._texts:
            split = split_named(file.stem)
            if not split or file.stem in self._stems or _is_labels(file):
                continue
            if not all(Path(line).suffix.lower() in IMAGES for line in _listed(file)):
                self.remarks.append(f'ignored {file}, whose lines are not all paths of images')
                continue
            sources.setdefault(split, []).append(file)
            splits.setdefault(split, []).extend(self._images_at(file))
        self.remark_on_joined(sources)
        return {split: images for split, images in splits.items() if images}

    def _remark_on_other_lists(self, others: list[Path]) -> None:
        """Remark on lists of splits that are not used because others come first."""
        lists = [path for path in self._texts if split_named(path.stem) and not _is_labels(path)]
        unused = [path for path in (*others, *lists) if path not in self._lists]
        if unused:
            self.remarks.append(
                f'ignored {counted(len(unused), "other file")} with splits{such_as(unused)}'
            )

    def _images_at(self, place: Path) -> list[Path]:
        """Return the images below a folder, an image, or the images that a text file lists."""
        if place.is_dir():
            return files_below(place, IMAGES)
        if place.suffix.lower() in IMAGES:
            return [place]
        self._lists.append(place)
        lines: dict[Path, str] = {}
        images = []
        for line in _listed(place):
            # Darknet's lists are relative to its working directory, above the dataset
            image = resolve(line, [place.parent, self.root]) or place.parent / line
            path = posixpath.normpath(line.replace('\\', '/'))
            if lines.setdefault(image, path) != path:
                raise UserError(
                    f'{lines[image]!r} and {path!r} in {place} both lead to {image}; correct the '
                    'paths'
                )
            images.append(image)
        return images

    def _yaml_keypoints(self) -> int:
        """Return the number of keypoint values that may follow a box."""
        shape = self._settings.get('kpt_shape', ['0'])
        if not isinstance(shape, list) or not all(str(number).isdigit() for number in shape):
            raise UserError(
                f'kpt_shape in {self._file} is {shape!r}; write [points, 2] or [points, 3]'
            )
        return math.prod(map(int, shape))


def _find_yamls(root: Path) -> dict[Path, dict[str, Any]]:
    """Return the settings of the YAML files that describe the dataset, the most important first."""
    files = files_below(root, ('.yaml', '.yml'), deep=False)
    usual = [path for path in files if path.stem.lower() in ('data', 'dataset')]
    if len(files) > 1 and len(usual) != 1:
        raise UserError(
            f'{root} contains several YAML files ({", ".join(path.name for path in files)}); keep '
            'only the one that describes the dataset, as data.yaml'
        )
    first = next(iter(usual or files), None)
    found = {first: read_yaml(first)} if first else {}
    for path in files_below(root, ('.yaml', '.yml')):
        if path not in found:
            try:
                settings = read_yaml(path)
            except UserError:
                continue  # not a file of the dataset
            if 'names' in settings:
                found[path] = settings
    return found


def _entries(value: Any) -> list[str]:
    """Return the paths of a split in a YAML file."""
    return [str(entry).strip() for entry in (value if isinstance(value, list) else [value])]


def _listed(file: Path) -> list[str]:
    """Return the lines of a list of images, without quotes and comments."""
    return [line.strip('"\'') for line in read_lines(file) if not line.startswith('#')]


def _text(path: Path) -> str | None:
    try:
        return read_text(path)
    except UserError:
        return None


def _is_labels(path: Path) -> bool:
    """Return whether the first line of a text file looks like a label."""
    words = next(iter((_text(path) or '').split('\n')), '').split()
    try:
        return len([float(word) for word in words]) > 4
    except ValueError:
        return False


def _item(words: list[str], size: tuple[int, int], classes: Sequence[str], keypoints: int) -> Item:
    """Convert the words of a line to an object in an image of ``size`` (width, height)."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise LabelError(f'{" ".join(words)[:40]!r} contains a word that is not a number') from None
    if not all(map(math.isfinite, numbers)):
        raise LabelError(f'{" ".join(words)[:40]!r} contains a number that is not finite')
    label, values = numbers[0], numbers[1:]
    if label not in range(len(classes)):
        raise LabelError(
            f'class {words[0]} is not in 0 to {len(classes) - 1} ({", ".join(classes[:5])}'
            f'{", ..." if len(classes) > 5 else ""})'
        )
    # keypoints, or a confidence, may follow a box
    if len(values) == 5 or (keypoints and len(values) == 4 + keypoints):
        values = values[:4]
    if len(values) < 4 or len(values) % 2:
        raise LabelError(
            f'{counted(len(values), "number")} after the class are neither a box (4) nor a polygon '
            '(pairs)'
        )
    for value in values:
        if not -_OVER <= value <= 1 + _OVER:
            raise LabelError(f'{value:g} is not a fraction of the image between 0 and 1')
    axes = [values[::2], values[1::2]]  # x and y
    is_box = len(values) == 4
    if is_box:
        axes = [[middle - length / 2, middle + length / 2] for middle, length in axes]
    pixels = [
        [round(min(max(value, 0.0), 1.0) * side, 3) for value in axis]
        for axis, side in zip(axes, size, strict=True)
    ]
    left, top = map(min, pixels)
    width, height = (round(max(axis) - min(axis), 3) for axis in pixels)
    if min(width, height) <= 0 or (is_box and min(values[2:]) < 0):
        raise LabelError('the object has no width or no height')
    # an object is cut if it exceeds the edge by half a pixel, more than by rounding
    cut = any(
        min(axis) * side < -0.5 or (max(axis) - 1) * side > 0.5
        for axis, side in zip(axes, size, strict=True)
    )
    outlines = () if is_box else (tuple(chain.from_iterable(zip(*pixels, strict=True))),)
    return Item(classes[int(label)], (left, top, width, height), outlines, cut=cut)
