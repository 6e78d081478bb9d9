"""Read datasets with an XML file per image, as in Pascal VOC."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsnet_mm.data.image_files import SUFFIXES
from dsnet_mm.errors import UserError, counted

from .sample import Found, Item, LabelError, Labels, Pair, split_of

_LABEL_FOLDERS = ('annotations', 'annotation', 'labels', 'xml', 'xmls')
_IMAGE_FOLDERS = ('JPEGImages', 'images', 'Images', 'image', 'img', 'imgs')
_LISTS = ('train', 'val', 'trainval', 'test')


@dataclass(frozen=True)
class Entry:
    """Hold an object with the coordinates of its XML file, which start at 0 or 1."""

    name: str
    corners: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...]
    difficult: bool


def find(root: Path) -> Found:
    """Find the XML files and images of a dataset.

    The splits come from ``ImageSets/Main``, or else from the names of folders.

    Raises:
        UserError: If there is no XML file.
    """
    found = Found()
    folders = _Folders()
    for file in sorted(root.rglob('ImageSets/Main/*.txt')):
        if file.stem in _LISTS:
            labels = file.parents[2] / 'Annotations'
            for line in _lines(file):
                found.add(file.stem, folders.pair(labels / f'{line.split()[0]}.xml'))
    if not found.splits:
        for path in sorted(root.rglob('*')):
            if path.suffix.lower() == '.xml':
                found.add(split_of(path.relative_to(root)), folders.pair(path))
        found.unlabeled = folders.without_label(found.pairs())
    if not found.splits:
        raise UserError(
            f'{root} contains no XML file; pass the folder of a VOC dataset, with an .xml file per '
            'image'
        )
    return found


def read_all(
    found: Found, sizes: dict[Path, tuple[int, int]], classes: Sequence[str] | None
) -> Labels:
    """Read the XML files of the images in ``sizes``.

    Args:
        found: The files of the dataset.
        sizes: Widths and heights in pixels of the readable images.
        classes: The allowed classes; if None, the classes in the files, sorted by name.
    """
    entries, faults = {}, {}
    for pair in found.pairs():
        if pair.image not in sizes:
            continue
        try:
            if pair.rivals:
                raise LabelError(
                    f'it may belong to {pair.image} or to {pair.rivals[0]}, one of which must be '
                    'renamed or moved'
                )
            said, entries[pair.image] = read(pair.label)
            _check_size(said, sizes[pair.image], pair.image)
            _check_entries(entries[pair.image], classes)
        except LabelError as error:
            entries.pop(pair.image, None)
            faults[pair.label] = str(error)
    origin = origin_of(entry for image in entries.values() for entry in image)
    names = sorted({entry.name for image in entries.values() for entry in image})
    remark = (
        'coordinates are assumed to start at 1, as in VOC'
        if origin
        else 'coordinates are assumed to start at 0, because some are below 1'
    )
    remarks = [remark]
    if found.unlabeled:
        remarks.append(
            f'skipped {counted(len(found.unlabeled), "image")} without an XML file, such as '
            f'{found.unlabeled[0]}'
        )
    items = {image: [to_item(entry, origin) for entry in entries[image]] for image in entries}
    return Labels(items, tuple(classes or names), faults, tuple(remarks))


def read(label: Path) -> tuple[tuple[int, int] | None, list[Entry]]:
    """Read an XML file.

    Returns:
        tuple: Width and height of the image according to the file, None if missing; the objects.

    Raises:
        LabelError: If the file is broken.
    """
    try:
        root = ElementTree.parse(label).getroot()
    except FileNotFoundError as error:
        raise LabelError('the file is missing') from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise LabelError(f'it is not valid XML ({error})') from error
    if root.tag != 'annotation':
        raise LabelError(f'its root is <{root.tag}> instead of <annotation>')
    width, height = (_side(root.findtext(f'size/{side}')) for side in ('width', 'height'))
    entries = [_entry(element, number) for number, element in enumerate(root.findall('object'), 1)]
    return (width, height) if width and height else None, entries


def origin_of(entries: Iterable[Entry]) -> int:
    """Return the first coordinate: 1 as in VOC, or 0 if any coordinate is below 1."""
    return int(all(min(entry.corners[:2]) >= 1 for entry in entries))


def to_item(entry: Entry, origin: int) -> Item:
    """Convert the coordinates of an object to pixels from 0.

    VOC counts pixels from 1, and its corner pixels belong to the object. Left and top edges
    therefore decrease by one; right and bottom edges keep their values.
    """
    left, top, right, bottom = entry.corners
    polygons = tuple(tuple(number - origin for number in polygon) for polygon in entry.polygons)
    box = (left - origin, top - origin, right - left + origin, bottom - top + origin)
    return Item(entry.name, box, polygons, entry.difficult)


def _check_size(said: tuple[int, int] | None, size: tuple[int, int], image: Path) -> None:
    if said not in (None, size):
        raise LabelError(
            f'it describes an image of {said[0]}x{said[1]} pixels, but {image} has '
            f'{size[0]}x{size[1]} after its EXIF rotation'
        )


def _check_entries(entries: Iterable[Entry], classes: Sequence[str] | None) -> None:
    for entry in entries:
        if classes is not None and entry.name not in classes:
            raise LabelError(f'its class {entry.name!r} is missing in --classes')
        left, top, right, bottom = entry.corners
        if right <= left or bottom <= top:
            raise LabelError(
                f'the box {left:g}, {top:g}, {right:g}, {bottom:g} of {entry.name!r} is empty'
            )


def _entry(element: ElementTree.Element, number: int) -> Entry:
    name = (element.findtext('name') or '').strip()
    if not name:
        raise LabelError(f'object {number} has no <name>')
    box = element.find('bndbox')
    if box is None:
        raise LabelError(f'object {number} ({name}) has no <bndbox>')
    corners = tuple(
        _number(box.findtext(tag), f'<{tag}> of object {number} ({name})')
        for tag in ('xmin', 'ymin', 'xmax', 'ymax')
    )
    polygons = tuple(
        _polygon(polygon, f'<polygon> of object {number} ({name})')
        for polygon in element.findall('polygon')
    )
    return Entry(name, corners, polygons, (element.findtext('difficult') or '').strip() == '1')


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


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file} cannot be read as text; save it as UTF-8') from error
    return [line for line in text.splitlines() if line.strip()]


class _Folders:
    """Find images by name, and list each folder only once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def pair(self, label: Path) -> Pair:
        """Return an XML file with the image of the same name, next to it or in an image folder."""
        for folder in self._candidates(label.parent):
            image, *rivals = self._images(folder).get(label.stem, [None])
            if image:
                return Pair(image, label, tuple(rivals))
        with_images = [folder for folder in self._candidates(label.parent) if self._images(folder)]
        return Pair((with_images or [label.parent])[0] / f'{label.stem}.jpg', label)

    def without_label(self, pairs: Iterable[Pair]) -> list[Path]:
        """Return the images in the folders of ``pairs`` that are not in ``pairs``, sorted."""
        labeled = {pair.image for pair in pairs}
        folders = {image.parent for image in labeled}
        return sorted(
            image
            for folder in folders
            for images in self._images(folder).values()
            for image in images
            if image not in labeled
        )

    @staticmethod
    def _candidates(folder: Path) -> Iterator[Path]:
        yield folder
        parts = folder.parts
        for place in reversed(range(len(parts))):
            if parts[place].lower() in _LABEL_FOLDERS:
                for name in ('', *_IMAGE_FOLDERS):
                    yield Path(*parts[:place], name, *parts[place + 1 :])
                return

    def _images(self, folder: Path) -> dict[str, list[Path]]:
        """Return the images of a folder by file name without extension, which may be ambiguous."""
        if folder not in self._listed:
            listed = self._listed[folder] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES:
                    listed.setdefault(path.stem, []).append(path)
        return self._listed[folder]
