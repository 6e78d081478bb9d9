"""Read an annotation file in COCO format into columns, including faulty entries."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from dsnet_mm.errors import UserError

from .runs import fill

LISTS = ('images', 'annotations', 'categories')
MIN_NUMBERS = 6  # three points
MOST = 1e300  # larger numbers do not count as numbers, so that sums are finite
FARTHEST = 1e6  # pixels from which polygons take pycocotools seconds, or kill its process
LARGEST_ID = 2**63  # the COCO metric cannot use larger ids
NUMBERS = frozenset({int, float, bool})  # mmdet reads true and false as 1 and 0


class Mask(IntEnum):
    """Classify the ``segmentation`` of an annotation."""

    NONE = 0
    POLYGONS = 1
    SHORT = 2  # no polygon that mmdet can use, or the first one breaks the evaluation
    RLE = 3
    WRONG = 4
    EMPTY = 5  # only polygons without points
    PARTLY = 6  # one of several polygons has fewer than three points or an odd number
    UNUSUAL = 7  # not in COCO format but readable, such as numbers written as texts
    UNFILLED = 8  # RLE whose runs do not add up to its size


class _Entries:
    """Share what entries with ids have in common."""

    ids: list[Any]

    @cached_property
    def plain_ids(self) -> bool:
        """Return whether all ids are integers of usual size, which is fast to find."""
        usual = set(map(type, self.ids)) <= {int}
        return usual and max(map(abs, self.ids), default=0) < LARGEST_ID


@dataclass(frozen=True)
class Images(_Entries):
    """Hold the N entries of ``images``; missing ids and names are None."""

    ids: list[Any]
    names: list[str | None]
    sizes: np.ndarray  # widths and heights in pixels (N, 2), NaN if not a number


@dataclass(frozen=True)
class Categories(_Entries):
    """Hold the entries of ``categories``; missing ids and names are None."""

    ids: list[Any]
    names: list[str | None]


@dataclass(frozen=True)
class Annotations(_Entries):
    """Hold the M entries of ``annotations``; missing ids are None, missing numbers NaN."""

    ids: list[Any]
    images: np.ndarray  # index of the image in ``images`` (M,), -1 if missing
    categories: np.ndarray  # index of the category in ``categories`` (M,), -1 if missing
    boxes: np.ndarray  # left, top, width, height in pixels (M, 4)
    areas: np.ndarray  # in pixels (M,)
    crowds: np.ndarray  # whether ``iscrowd`` is true (M,)
    raw: list[dict[str, Any]]

    @cached_property
    def masks(self) -> np.ndarray:
        """Return the kinds of ``segmentation`` (M,)."""
        masks: list[Any] = [entry.get('segmentation') for entry in self.raw]
        kinds = np.fromiter(map(_mask_kind, masks), np.int8, len(masks))
        packed = [i for i in np.flatnonzero(kinds == Mask.RLE) if type(masks[i]['counts']) is str]
        sizes = [masks[i]['size'][0] * masks[i]['size'][1] for i in packed]
        fills = fill([masks[i]['counts'] for i in packed], sizes)
        kinds[np.array(packed, dtype=np.int64)[~fills]] = Mask.UNFILLED
        return kinds

    @cached_property
    def mask_sizes(self) -> np.ndarray:
        """Return widths and heights of RLE masks (M, 2), NaN for other masks."""
        sizes = np.full((len(self.raw), 2), np.nan)
        for place in np.flatnonzero(self.masks == Mask.RLE):
            sizes[place] = self.raw[place]['segmentation']['size'][::-1]
        return sizes

    @cached_property
    def with_box(self) -> np.ndarray:
        """Return whether an annotation has a box of four numbers (M,)."""
        return np.isfinite(self.boxes).all(1)


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

    def category_name(self, index: int) -> str:
        """Return the quoted name of a category, or its index in ``categories`` without one."""
        return repr(self.categories.names[index] or f'entry {index} of categories')

    def annotation_name(self, index: int) -> str:
        """Return id and image of an annotation, or its index without an id."""
        number = self.annotations.ids[index]
        name = f'entry {index} of annotations' if number is None else f'annotation {number}'
        image = self.annotations.images[index]
        return name if image < 0 else f'{name} in {self.image_name(image)}'

    @cached_property
    def sizes_of_annotated_images(self) -> np.ndarray:
        """Return width and height of the image of each annotation (M, 2), NaN if unknown."""
        places = self.annotations.images
        return np.where(places[:, None] >= 0, self.images.sizes[places], np.nan)


def read_coco(path: str) -> CocoFile:
    """Read an annotation file without judging its single entries.

    Raises:
        UserError: If the file cannot be read, is not JSON, or lacks the structure of COCO format.
    """
    return to_columns(path, read_content(path))


def read_content(path: str) -> dict[str, Any]:
    """Read a file and check that it has the structure of COCO format.

    Raises:
        UserError: If the file cannot be read, is not JSON, or lacks the structure of COCO format.
    """
    content = _load(path)
    _check_structure(path, content)
    return content


def to_columns(path: str, content: dict[str, Any]) -> CocoFile:
    """Convert the content of the file ``path`` to columns."""
    images, annotations, categories = (content[key] for key in LISTS)
    image_ids, category_ids = _column(images, 'id'), _column(categories, 'id')
    return CocoFile(
        path,
        Images(
            image_ids,
            _texts(images, 'file_name'),
            np.stack([_numbers(_column(images, key)) for key in ('width', 'height')], axis=1),
        ),
        Categories(category_ids, _texts(categories, 'name')),
        Annotations(
            ids=_column(annotations, 'id'),
            images=_places(_column(annotations, 'image_id'), image_ids),
            categories=_places(_column(annotations, 'category_id'), category_ids),
            boxes=_rows(_column(annotations, 'bbox'), 4),
            areas=_numbers(_column(annotations, 'area')),
            crowds=np.array([bool(entry.get('iscrowd')) for entry in annotations], dtype=bool),
            raw=annotations,
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


def _texts(entries: Sequence[dict[str, Any]], key: str) -> list[str | None]:
    """Return the texts of a column, None for empty texts and other values."""
    return [text if isinstance(text, str) and text else None for text in _column(entries, key)]


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """Convert the values to floats (N,), NaN for values that are not numbers."""
    numbers = (v if type(v) in NUMBERS and abs(v) < MOST else np.nan for v in values)
    return np.fromiter(numbers, np.float64, len(values))


def _rows(values: Sequence[Any], length: int) -> np.ndarray:
    """Convert lists of numbers to floats (N, ``length``), NaN for anything else."""
    rows = (row if type(row) is list and len(row) == length else [None] * length for row in values)
    return _numbers(list(chain.from_iterable(rows))).reshape(-1, length)


def _places(references: Sequence[Any], ids: Sequence[Any]) -> np.ndarray:
    """Return the index of each reference in ``ids`` (M,), the last one as in COCO, or -1."""
    kinds = {*NUMBERS, str}
    places = {number: place for place, number in enumerate(ids) if type(number) in kinds}
    found = (places.get(number, -1) if type(number) in kinds else -1 for number in references)
    return np.fromiter(found, np.int64, len(references))


def _mask_kind(value: Any) -> Mask:
    if not value:
        return Mask.NONE
    if type(value) is dict:
        return _rle_kind(value)
    if type(value) is not list or set(map(type, value)) != {list}:
        return Mask.WRONG
    if not any(value):
        return Mask.EMPTY
    try:
        if not all(map(_is_near, value)):
            return Mask.WRONG
    except TypeError:  # not only numbers
        return Mask.UNUSUAL if _are_texts(value) else Mask.WRONG
    usable = [len(polygon) >= MIN_NUMBERS and len(polygon) % 2 == 0 for polygon in value]
    if all(usable):
        return Mask.POLYGONS
    return Mask.PARTLY if any(usable) and len(value[0]) >= MIN_NUMBERS - 1 else Mask.SHORT


def _is_near(polygon: list[float]) -> bool:
    # the sum finds NaN
    return not polygon or (
        max(polygon) < FARTHEST and min(polygon) > -FARTHEST and math.isfinite(sum(polygon))
    )


def _are_texts(polygons: list[list[Any]]) -> bool:
    """Return whether all coordinates are numbers or texts of numbers."""
    try:
        return _is_near([float(number) for number in chain.from_iterable(polygons)])
    except (TypeError, ValueError):
        return False


def _rle_kind(value: dict[str, Any]) -> Mask:
    size: Any = value.get('size')
    counts: Any = value.get('counts')
    if type(size) is not list or type(counts) not in (list, str) or len(size) < 2:
        return Mask.WRONG
    if list(map(type, size)) != [int, int]:
        if not set(map(type, size)) <= {int, float}:
            return Mask.WRONG
        kind = _rle_kind(dict(value, size=_integers(size[:2])))
        return Mask.UNUSUAL if kind == Mask.RLE else kind
    if min(size) < 1:
        return Mask.WRONG
    if type(counts) is str:
        return Mask.RLE  # the runs are checked for all masks together
    usual = set(map(type, counts)) <= {int}
    numbers = counts if usual else _integers(counts)
    if not numbers:
        return Mask.WRONG
    if sum(numbers) != size[0] * size[1] or min(numbers) < 0:
        return Mask.UNFILLED
    return Mask.RLE if usual else Mask.UNUSUAL


def _integers(values: list[Any]) -> list[int]:
    """Convert whole numbers and texts of them; return [] if there are others."""
    try:
        numbers = [float(value) for value in values]
        whole = [int(number) for number in numbers]
        return whole if whole == numbers else []
    except (TypeError, ValueError, OverflowError):
        return []
