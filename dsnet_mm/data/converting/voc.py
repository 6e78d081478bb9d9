"""Sets with an XML file for each image, as Pascal VOC has them."""

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
    """An object as it stands in the XML file: corners and outlines count from ``origin``."""

    name: str
    corners: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...]
    difficult: bool


def find(root: Path) -> Found:
    """Find the XML files of a set and their images.

    The splits are those of ``ImageSets/Main``, else those that folders are named after.

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
        found.unlabelled = folders.without_label(found.pairs())
    if not found.splits:
        raise UserError(
            f'{root} has no XML file in it; give the folder of a VOC-style set, with an .xml file '
            'for each image'
        )
    return found


def read_all(
    found: Found, sizes: dict[Path, tuple[int, int]], classes: Sequence[str] | None
) -> Labels:
    """Read the XML files of the images in ``sizes``.

    Args:
        found: The files of the set.
        sizes: Widths and heights in pixels of the images that can be read.
        classes: All classes that may occur; if None, those that do occur, sorted by name.
    """
    entries, faults = {}, {}
    for pair in found.pairs():
        if pair.image not in sizes:
            continue
        try:
            if pair.rivals:
                raise LabelError(
                    f'it may be for {pair.image} or for {pair.rivals[0]}, so that one of them has '
                    'to get another name or place'
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
        'coordinates are taken to count from 1, as in VOC'
        if origin
        else 'coordinates are taken to count from 0, since some lie below 1, where VOC begins'
    )
    remarks = [remark]
    if found.unlabelled:
        remarks.append(
            f'left out {counted(len(found.unlabelled), "image")} without an XML file, '
            f'{found.unlabelled[0]} among them'
        )
    items = {image: [to_item(entry, origin) for entry in entries[image]] for image in entries}
    return Labels(items, tuple(classes or names), faults, tuple(remarks))


def read(label: Path) -> tuple[tuple[int, int] | None, list[Entry]]:
    """Read an XML file.

    Returns:
        tuple: Width and height that it says the image has, None if it does not say so; the
        objects.

    Raises:
        LabelError: If it is broken.
    """
    try:
        root = ElementTree.parse(label).getroot()
    except FileNotFoundError as error:
        raise LabelError('the file is missing') from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise LabelError(f'it is no XML ({error})') from error
    if root.tag != 'annotation':
        raise LabelError(f'it holds <{root.tag}>, not an <annotation>')
    width, height = (_side(root.findtext(f'size/{side}')) for side in ('width', 'height'))
    entries = [_entry(element, number) for number, element in enumerate(root.findall('object'), 1)]
    return (width, height) if width and height else None, entries


def origin_of(entries: Iterable[Entry]) -> int:
    """From where coordinates count: 1 as in VOC, or 0 if any lies below 1."""
    return int(all(min(entry.corners[:2]) >= 1 for entry in entries))


def to_item(entry: Entry, origin: int) -> Item:
    """Place an object in the image.

    VOC counts pixels from 1, and its corners are pixels that belong to the object: its left and
    upper edges are one less, its right and lower edges are the numbers themselves.
    """
    left, top, right, bottom = entry.corners
    polygons = tuple(tuple(number - origin for number in polygon) for polygon in entry.polygons)
    box = (left - origin, top - origin, right - left + origin, bottom - top + origin)
    return Item(entry.name, box, polygons, entry.difficult)


def _check_size(said: tuple[int, int] | None, size: tuple[int, int], image: Path) -> None:
    if said not in (None, size):
        raise LabelError(
            f'it is for an image of {said[0]}x{said[1]} pixels, but {image} has '
            f'{size[0]}x{size[1]}, turned as EXIF asks'
        )


def _check_entries(entries: Iterable[Entry], classes: Sequence[str] | None) -> None:
    for entry in entries:
        if classes is not None and entry.name not in classes:
            raise LabelError(f'its class {entry.name!r} is not among --classes')
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
        raise LabelError(f'{what} is {text!r}, which is no number')
    return number


def _side(text: str | None) -> int:
    """A side of the image, 0 where it is not known."""
    try:
        return int(float(text or 0))
    except (ValueError, OverflowError):
        return 0


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file} cannot be read as text; write it anew') from error
    return [line for line in text.splitlines() if line.strip()]


class _Folders:
    """Where the images lie; each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def pair(self, label: Path) -> Pair:
        """An XML file and the image of the same name beside it or in a folder for images."""
        for folder in self._candidates(label.parent):
            image, *rivals = self._images(folder).get(label.stem, [None])
            if image:
                return Pair(image, label, tuple(rivals))
        there = [folder for folder in self._candidates(label.parent) if self._images(folder)]
        return Pair((there or [label.parent])[0] / f'{label.stem}.jpg', label)

    def without_label(self, pairs: Iterable[Pair]) -> list[Path]:
        """The other images in the folders of those of ``pairs``, in order."""
        labelled = {pair.image for pair in pairs}
        folders = {image.parent for image in labelled}
        return sorted(
            image
            for folder in folders
            for images in self._images(folder).values()
            for image in images
            if image not in labelled
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
        """The images of a folder by their names without ending, which several may have."""
        if folder not in self._listed:
            listed = self._listed[folder] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES:
                    listed.setdefault(path.stem, []).append(path)
        return self._listed[folder]
