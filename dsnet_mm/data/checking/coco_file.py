"""Read an annotation file in COCO format into columns, including faulty entries."""

from __future__ import annotations

import gc
import json
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import Any

import numpy as np

from dsnet_mm.errors import UserError

LISTS = ('images', 'annotations', 'categories')
MIN_NUMBERS = 6  # three points


class Mask(IntEnum):
    """Classify the ``segmentation`` of an annotation."""

    NONE = 0
    POLYGONS = 1
    SHORT = 2  # a polygon with fewer than three points or an odd number of coordinates
    RLE = 3
    WRONG = 4


@dataclass(frozen=True)
class Images:
    """Hold the N entries of ``images``.

    Attributes:
        ids (list): Ids as written in the file, None if missing.
        names (list): File names, None if missing.
        sizes (np.ndarray): Widths and heights in pixels (N, 2), NaN if not a number.
    """

    ids: list[Any]
    names: list[str | None]
    sizes: np.ndarray


@dataclass(frozen=True)
class Categories:
    """Hold ids and names of ``categories`` as written in the file, None if missing."""

    ids: list[Any]
    names: list[str | None]


@dataclass(frozen=True)
class Annotations:
    """Hold the M entries of ``annotations``.

    Attributes:
        ids (list): Ids as written in the file, None if missing.
        images (np.ndarray): Index (M,) of the image in ``images``, -1 if missing.
        categories (np.ndarray): Index (M,) of the category in ``categories``, -1 if missing.
        boxes (np.ndarray): Left, top, width, height in pixels (M, 4), NaN if not a box.
        areas (np.ndarray): Areas (M,) in pixels, NaN if not a number.
        crowds (np.ndarray): Whether ``iscrowd`` is true (M,).
        masks (np.ndarray): Kinds of ``segmentation`` (M,), see :class:`Mask`.
        mask_sizes (np.ndarray): Widths and heights of RLE masks (M, 2), NaN for other masks.
        raw (list): The entries as dicts.
    """

    ids: list[Any]
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    masks: np.ndarray
    mask_sizes: np.ndarray
    raw: list[dict[str, Any]]


@dataclass(frozen=True)
class CocoFile:
    """Hold an annotation file as columns."""

    path: str
    images: Images
    categories: Categories
    annotations: Annotations

    def image_name(self, index: int) -> str:
        """Return the file name of an image, or its index in ``images`` without one."""
        return self.images.names[index] or f'entry {index} of images'

    def annotation_name(self, index: int) -> str:
        """Return id and image of an annotation, or its index without an id."""
        number = self.annotations.ids[index]
        name = f'entry {index} of annotations' if number is None else f'annotation {number}'
        image = self.annotations.images[index]
        return name if image < 0 else f'{name} in {self.image_name(image)}'


def read_coco(path: str) -> CocoFile:
    """Read an annotation file without judging its single entries.

    Raises:
        UserError: If the file cannot be read, is not JSON, or lacks the structure of COCO format.
    """
    content = _load(path)
    _check_structure(path, content)
    images, annotations, categories = (content[key] for key in LISTS)
    image_ids, category_ids = _column(images, 'id'), _column(categories, 'id')
    masks, mask_sizes = _masks(_column(annotations, 'segmentation'))
    return CocoFile(
        path,
        Images(
            image_ids,
            [
                name if isinstance(name, str) and name else None
                for name in _column(images, 'file_name')
            ],
            np.stack([_numbers(_column(images, key)) for key in ('width', 'height')], axis=1),
        ),
        Categories(
            category_ids,
            [
                name if isinstance(name, str) and name else None
                for name in _column(categories, 'name')
            ],
        ),
        Annotations(
            _column(annotations, 'id'),
            _places(_column(annotations, 'image_id'), image_ids),
            _places(_column(annotations, 'category_id'), category_ids),
            _boxes(_column(annotations, 'bbox')),
            _numbers(_column(annotations, 'area')),
            np.fromiter((bool(entry.get('iscrowd')) for entry in annotations), bool),
            masks,
            mask_sizes,
            annotations,
        ),
    )


def _load(path: str) -> Any:
    try:
        with open(path, encoding='utf-8') as file, _no_collection():
            return json.load(file)
    except OSError as error:
        raise UserError(
            f'{path} cannot be read ({error.strerror}); pass an annotation file in COCO format '
            '(.json)'
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path} is not UTF-8 text (byte {error.start}); pass a .json file in UTF-8'
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'{path} is not valid JSON ({error}); if the file is truncated, write or download it '
            'again'
        ) from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the garbage collector, which would scan the growing content again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_structure(path: str, content: Any) -> None:
    if isinstance(content, list) and content and isinstance(content[0], dict):
        if 'score' in content[0]:
            raise UserError(
                f'{path} contains predictions with scores; pass the annotation file instead'
            )
    if not isinstance(content, dict):
        raise UserError(
            f'{path} contains {_kind(content)}, but COCO format is an object with the lists '
            f'{", ".join(LISTS)}; convert the dataset with `dsnet-mm convert-data`'
        )
    for key in LISTS:
        if key not in content:
            raise UserError(
                f"{path} has no '{key}', only {', '.join(map(repr, content)) or 'nothing'}; "
                'pass a file with COCO instance annotations'
            )
        entries = content[key]
        if not isinstance(entries, list):
            raise UserError(
                f"'{key}' in {path} is {_kind(entries)} but must be a list; correct the file"
            )
        wrong = next((i for i, entry in enumerate(entries) if type(entry) is not dict), None)
        if wrong is not None:
            raise UserError(
                f"entry {wrong} of '{key}' in {path} is {_kind(entries[wrong])} but must be an "
                'object; correct the file'
            )
        if not entries and key != 'annotations':
            raise UserError(f"'{key}' in {path} is empty; add the {key} to the file")


def _kind(value: Any) -> str:
    names = {dict: 'an object', list: 'a list', str: 'a string', bool: 'a boolean'}
    return 'null' if value is None else names.get(type(value), 'a number')


def _column(entries: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return [entry.get(key) for entry in entries]


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """Convert the values to floats (N,), NaN for values that are not numbers."""
    if not set(map(type, values)) <= {int, float}:
        values = [value if _is_number(value) else np.nan for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer with hundreds of digits
        return np.array([v if abs(v) < 1e300 else np.nan for v in values], dtype=np.float64)


def _boxes(values: Sequence[Any]) -> np.ndarray:
    nothing = [None] * 4
    boxes = [box if type(box) is list and len(box) == 4 else nothing for box in values]
    return _numbers(list(chain.from_iterable(boxes))).reshape(-1, 4)


def _places(references: Sequence[Any], ids: Sequence[Hashable]) -> np.ndarray:
    """Return the index of each reference in ``ids``, (M,), the last one as in COCO, or -1."""
    places = {number: place for place, number in enumerate(ids) if type(number) in (int, str)}
    return np.fromiter(
        (places.get(number, -1) if type(number) in (int, str) else -1 for number in references),
        dtype=np.int64,
        count=len(references),
    )


def _masks(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the kinds of the segmentations (M,) and the sizes of RLE masks (M, 2)."""
    kinds = np.full(len(values), Mask.NONE, dtype=np.int8)
    sizes = np.full((len(values), 2), np.nan)
    for place, value in enumerate(values):
        if not value:
            continue
        if type(value) is list:
            kinds[place] = _polygons_kind(value)
        elif _is_rle(value):
            kinds[place] = Mask.RLE
            sizes[place] = value['size'][::-1]
        else:
            kinds[place] = Mask.WRONG
    return kinds, sizes


def _polygons_kind(polygons: list[Any]) -> Mask:
    if set(map(type, polygons)) != {list}:
        return Mask.WRONG
    if not set(map(type, chain.from_iterable(polygons))) <= {int, float}:
        return Mask.WRONG
    if any(len(polygon) < MIN_NUMBERS or len(polygon) % 2 for polygon in polygons):
        return Mask.SHORT
    return Mask.POLYGONS


def _is_rle(value: Any) -> bool:
    if type(value) is not dict:
        return False
    size, counts = value.get('size'), value.get('counts')
    if type(size) is not list or len(size) != 2 or not all(type(side) is int for side in size):
        return False
    if type(counts) is list:
        if not set(map(type, counts)) <= {int}:
            return False
        return sum(counts) == size[0] * size[1]
    return type(counts) is str
