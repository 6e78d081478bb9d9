"""Read datasets with an XML file per image, as in Pascal VOC."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from dsnet_mm.data.file_finder import IMAGES, Counterparts, files_below
from dsnet_mm.data.text_files import read_lines, read_xml
from dsnet_mm.errors import UserError, counted

from .dataset import (
    LAYOUTS,
    Dataset,
    Item,
    LabeledImage,
    LabelError,
    Labels,
    Pair,
    may_belong,
    such_as,
)
from .names import nearest, split_named, stem_of

_LABEL_FOLDERS = (
    'annotations', 'annotation', 'labels', 'xml', 'xmls', 'annots', 'annot', 'bbox', 'anno', 'annos'
)  # fmt: skip
_IMAGE_FOLDERS = ('', 'jpegimages', 'images', 'image', 'img', 'imgs')
_LIST_FOLDERS = ('main', 'imagesets', 'segmentation', 'layout')  # in order of preference
_FLAGS = ('-1', '0', '1')  # second column of the lists of a class


class VocDataset(Dataset):
    """Read a VOC dataset.

    The splits come from ``ImageSets/Main``, or else from the names of folders.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None) -> None:
        super().__init__(root, classes)
        self._images = Counterparts(IMAGES, _LABEL_FOLDERS, _IMAGE_FOLDERS)
        self._renamed: list[Path] = []  # XML files that name another image
        labels = files_below(root, ('.xml',))
        splits = self._from_lists(labels)
        if splits:
            used = {label for members in splits.values() for label in members}
            if unused := [label for label in labels if label not in used]:
                self.remarks.append(
                    f'left out {counted(len(unused), "XML file")} that no list names'
                    f'{such_as(unused)}'
                )
        elif labels:
            splits = self.splits_of_folders(labels)
        else:
            raise UserError(
                f'{root} contains no XML file; pass the folder of a VOC dataset: {LAYOUTS["voc"]}'
            )
        wanted = list(dict.fromkeys(label for members in splits.values() for label in members))
        pairs = self._pairs(wanted)
        for split, members in splits.items():
            self.splits[split] = [pairs[label] for label in members]
        self.divide_by({pair.image: pair.image for pair in self.pairs()})
        self.check_repeats()
        self._claimed = {pair.image for pair in self.pairs()}
        if not self._listed:
            self._remark_on_unlabeled()

    def _remark_on_unlabeled(self) -> None:
        known = {image.resolve() for image in self._claimed}
        images = files_below(self.root, IMAGES)
        if bare := [image for image in images if image.resolve() not in known]:
            self.remarks.append(
                f'skipped {counted(len(bare), "image")} without an XML file{such_as(bare)}'
            )

    # ---- splits

    def _from_lists(self, labels: Sequence[Path]) -> dict[str, list[Path]]:
        """Return the XML files of each split that has a list, none without lists."""
        texts = files_below(self.root, ('.txt',))
        by_folder: dict[str, list[Path]] = {}
        for file in texts:
            if 'imagesets' in [part.lower() for part in file.parts[-3:-1]]:
                by_folder.setdefault(file.parent.name.lower(), []).append(file)
            elif file.parent == self.root and split_named(file.stem):
                by_folder.setdefault('', []).append(file)
        self._listed = False
        for folder in (*_LIST_FOLDERS, ''):
            lists = {file: _list_name(file.stem) for file in by_folder.get(folder, ())}
            named = {file: split for file, split in lists.items() if split}
            if not named:
                continue
            self._listed = True
            return self._read_lists(named, labels)
        if by_folder:
            files = next(iter(by_folder.values()))
            self.remarks.append(
                f'ignored {counted(len(files), "list")} not named after a split, such as {files[0]}'
            )
        return {}

    def _read_lists(self, lists: dict[Path, str], labels: Sequence[Path]) -> dict[str, list[Path]]:
        splits: dict[str, list[Path]] = {}
        sources: dict[str, list[Path]] = {}
        for file, split in lists.items():
            base = next(
                (p.parent for p in file.parents if p.name.lower() == 'imagesets'), self.root
            )
            by_stem: dict[str, list[Path]] = {}
            for label in labels:
                if label.is_relative_to(base):
                    for key in {label.stem, label.stem.casefold()}:
                        by_stem.setdefault(key, []).append(label)
            sources.setdefault(split, []).append(file)
            for line in read_lines(file):
                if line.startswith('#'):
                    continue
                found = _labels_of(line, by_stem)
                if len(found) > 1:
                    found = [p for p in found if p.parent == base / 'Annotations'] or found
                if len(found) > 1:
                    raise UserError(
                        f'{line!r} in {file} may be {found[0]} or {found[1]}; rename one of both'
                    )
                missing = base / 'Annotations' / f'{_stem(_without_flag(line))}.xml'
                splits.setdefault(split, []).append(found[0] if found else missing)
        self.remark_on_joined(sources)
        return splits

    # ---- images

    def _pairs(self, labels: Sequence[Path]) -> dict[Path, Pair]:
        """Return the XML files with their images."""
        found = {label: self._beside(label) for label in labels}
        lost = [label for label, pair in found.items() if not pair]
        if not lost:
            return {label: pair for label, pair in found.items() if pair}
        taken = {pair.image.resolve() for pair in found.values() if pair}
        free: dict[str, list[Path]] = {}
        for image in files_below(self.root, IMAGES):
            if image.resolve() not in taken:
                free.setdefault(image.stem.casefold(), []).append(image)
        elsewhere: list[Pair] = []
        for label in lost:
            names = [name for name in (_file_name(label), label.stem) if name]
            places = next(filter(None, (free.get(_stem(n).casefold()) for n in names)), [])
            images = nearest(label, places, self.root)
            exact = [image for image in images if image.name in names or image.stem in names]
            images = exact or images
            if not images:
                found[label] = Pair(self._usual(label), label)
                continue
            conflict = may_belong(images) if len(images) > 1 else ''
            found[label] = pair = Pair(images[0], label, conflict)
            elsewhere.append(pair)
        if sure := [pair for pair in elsewhere if not pair.conflict]:
            self.remarks.append(
                f'found the images of {counted(len(sure), "XML file")} by name in other folders, '
                f'such as {sure[0].image} for {sure[0].label}'
            )
        return {label: pair for label, pair in found.items() if pair}

    def _folders(self, label: Path) -> list[Path]:
        return [
            folder
            for place in dict.fromkeys((label.parent, label.resolve().parent))
            for folder in (place, *self._images.folders(place))
        ]

    def _beside(self, label: Path) -> Pair | None:
        """Return an XML file with the image of the same name, next to it or in an image folder."""
        for folder in self._folders(label):
            if images := self._images.files(folder).get(label.stem):
                conflict = may_belong(images) if len(images) > 1 else ''
                return Pair(images[0], label, conflict)
        return None

    def _usual(self, label: Path) -> Path:
        """Return where the image of an XML file is expected."""
        usual = next(filter(self._images.files, self._folders(label)), label.parent)
        return usual / f'{label.stem}.jpg'

    # ---- objects

    def read(self, label: Path, image: Path, size: tuple[int, int]) -> Labels:
        """Read the objects of an image, with coordinates as in the file."""
        root = _parse(label)
        width, height = (_side(root.findtext(f'size/{side}')) for side in ('width', 'height'))
        if width and height and (width, height) != size:
            raise LabelError(
                f'it describes an image of {width}x{height} pixels, but {image} has '
                f'{size[0]}x{size[1]} after its EXIF rotation'
            )
        name = PureWindowsPath((root.findtext('filename') or '').strip()).name
        if name and _stem(name) != image.stem:
            other = image.parent / name
            if other.is_file() and other not in self._claimed:
                raise LabelError(
                    f'it may belong to {image} or to {other}, which it names; correct its name '
                    'or its <filename>'
                )
            self._renamed.append(label)
        items, faults = [], []
        for number, element in enumerate(root.findall('object'), 1):
            try:
                item = _item(element, number)
                if self.classes and item.name not in self.classes:
                    raise LabelError(f'its class {item.name!r} is missing in --classes')
                items.append(item)
            except LabelError as error:
                faults.append(str(error))
        return Labels(items, faults)

    def finish(self, images: Iterable[LabeledImage]) -> None:
        """Let coordinates start at 0, and sort the classes by name.

        VOC counts pixels from 1, and its corner pixels belong to the object. Left and top edges
        therefore decrease by one; right and bottom edges keep their values.
        """
        images = list(images)
        items = [item for image in images for item in image.items]
        self.classes = self.classes or tuple(sorted({item.name for item in items}))
        if any(min(item.box[:2]) < 1 for item in items):
            self.remarks.insert(
                0, 'coordinates are assumed to start at 0, because some are below 1'
            )
        else:
            self.remarks.insert(0, 'coordinates are assumed to start at 1, as in VOC')
            for image in images:
                image.items = [_from_zero(item) for item in image.items]
        if self._renamed:
            self.remarks.append(
                f'used the image with the name of the XML file for '
                f'{counted(len(self._renamed), "XML file")} with another <filename>'
                f'{such_as(self._renamed)}'
            )


def _list_name(stem: str) -> str | None:
    """Return the split of a list, None for the lists of a class and other names."""
    return 'trainval' if stem.lower() == 'trainval' else split_named(stem)


def _stem(name: str) -> str:
    return stem_of(name, (*IMAGES, '.xml'))


def _without_flag(line: str) -> str:
    words = line.rsplit(maxsplit=1)
    return words[0] if len(words) > 1 and words[1] in _FLAGS else line


def _labels_of(line: str, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Return the XML files that a line of a list names, with or without folders and suffix."""
    stems = (_stem(line), _stem(_without_flag(line)), _stem(line.split()[0]))
    keys = (key for stem in stems for key in (stem, stem.casefold()))
    return next((by_stem[key] for key in keys if key in by_stem), [])


def _file_name(label: Path) -> str:
    """Return the <filename> of an XML file without folders, '' if it is unknown."""
    try:
        name = _parse(label).findtext('filename') or ''
    except LabelError:
        return ''
    return PureWindowsPath(name.strip()).name


def _from_zero(item: Item) -> Item:
    left, top, width, height = item.box
    polygons = tuple(tuple(number - 1 for number in polygon) for polygon in item.polygons)
    return replace(item, box=(left - 1, top - 1, width + 1, height + 1), polygons=polygons)


def _parse(label: Path) -> ElementTree.Element:
    if not label.exists():
        raise LabelError('the file is missing')
    try:
        root = ElementTree.fromstring(read_xml(label))
    except (ElementTree.ParseError, ValueError) as error:
        raise LabelError(f'it is not valid XML ({error})') from error
    except UserError as error:
        raise LabelError(f'it is not valid XML ({str(error).removeprefix(f"{label} ")})') from error
    if root.tag != 'annotation':
        raise LabelError(f'its root is <{root.tag}> instead of <annotation>')
    return root


def _item(element: ElementTree.Element, number: int) -> Item:
    name = (element.findtext('name') or '').strip()
    if not name:
        raise LabelError(f'object {number} has no <name>')
    box = element.find('bndbox')
    if box is None:
        raise LabelError(f'object {number} ({name}) has no <bndbox>')
    left, top, right, bottom = (
        _number(box.findtext(tag), f'<{tag}> of object {number} ({name})')
        for tag in ('xmin', 'ymin', 'xmax', 'ymax')
    )
    if right <= left or bottom <= top:
        raise LabelError(f'the box {left:g}, {top:g}, {right:g}, {bottom:g} of {name!r} is empty')
    polygons = tuple(
        _polygon(polygon, f'<polygon> of object {number} ({name})')
        for polygon in element.findall('polygon')
    )
    difficult = (element.findtext('difficult') or '').strip() == '1'
    return Item(name, (left, top, right - left, bottom - top), polygons, crowd=difficult)


def _polygon(element: ElementTree.Element, what: str) -> tuple[float, ...]:
    numbers = tuple(
        _number(point.text, what) for point in element.iter() if re.fullmatch(r'[xy]\d*', point.tag)
    )
    if len(numbers) < 6 or len(numbers) % 2:
        raise LabelError(f'{what} has fewer than three points')
    return numbers


def _number(text: str | None, what: str) -> float:
    try:
        number = float(text or '')
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LabelError(f'{what} is {text!r} instead of a number')
    return number


def _side(text: str | None) -> int:
    """Parse a side of the image; return 0 if it is unknown."""
    try:
        return int(float(text or 0))
    except (ValueError, OverflowError):
        return 0
