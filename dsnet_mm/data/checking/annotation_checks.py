"""Check the entries of an annotation file: ids, references, boxes, areas and masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dsnet_mm.data.class_names import FEW, FREQUENT, rare_classes, similar_names

from .coco_file import LARGEST_ID, NUMBERS, CocoFile, Mask
from .empty_masks import empty_masks
from .finding import Finding, finding

TOLERANCE = 1.0  # pixels by which rounding may move a box over the edge of its image
MANY = 0.2  # share of faulty boxes above which the whole file probably has the wrong format
LARGEST_AREA = 1e10  # the COCO metric ignores larger objects
TOLERATED = 0.01  # share of lost objects with which a training starts; COCO's own files lose some


NAMES: dict[str, Callable[[CocoFile, int], str]] = {
    'images': CocoFile.image_name,
    'categories': CocoFile.category_name,
    'annotations': CocoFile.annotation_name,
}
"""How messages name an entry of each list."""


@dataclass(frozen=True)
class Rule:
    """Describe a fault of entries.

    Attributes:
        title: The fault in the plural.
        faulty: Returns whether an entry is faulty, for all N entries (N,).
        advice: The effect in mmdet, and the remedy.
        example: Describes a faulty entry; by default with its name.
        hint: Returns the cause if the whole file suggests it, or ''.
        level: A fault is a 'problem' or a 'note', or a 'problem if all' entries have it.
        of_masks: Whether the fault matters only for the training of masks.
        stops: Whether a training must not start: 'always', if 'many' objects have the fault, or
            'never'.
    """

    title: str
    faulty: Callable[[CocoFile], np.ndarray]
    advice: str
    example: Callable[[CocoFile, int], str] | None = None
    hint: Callable[[CocoFile], str] = lambda coco: ''
    level: Literal['problem', 'note', 'problem if all'] = 'problem'
    of_masks: bool = False
    stops: Literal['always', 'many', 'never'] = 'many'


def check_entries(coco: CocoFile, masks: bool = True) -> list[Finding]:
    """Check images, categories and annotations without opening image files.

    Args:
        coco: The annotation file.
        masks: Whether faults of masks are problems; otherwise they are notes.
    """
    rules = ((entries, rule) for entries in RULES for rule in RULES[entries])
    with np.errstate(invalid='ignore'):  # missing numbers are NaN
        return [_apply(rule, entries, coco, masks) for entries, rule in rules]


def check_before_training(coco: CocoFile, masks: bool) -> tuple[list[Finding], list[Finding]]:
    """Return the problems with which a run must not start, and other problems.

    Args:
        coco: The annotation file.
        masks: Whether the training needs masks.
    """
    stopping, others = [], []
    for entries, rules in RULES.items():
        for rule in rules:
            if rule.level != 'problem' or (rule.of_masks and not masks):
                continue
            with np.errstate(invalid='ignore'):
                problem = _apply(rule, entries, coco, masks)
            tolerated = 0 if rule.stops == 'always' else TOLERATED * len(getattr(coco, entries).ids)
            if problem.count > tolerated and rule.stops != 'never':
                stopping.append(problem)
            elif problem.count:
                others.append(problem)
    return stopping, others


def _apply(rule: Rule, entries: str, coco: CocoFile, masks: bool) -> Finding:
    faulty = rule.faulty(coco)
    places = np.flatnonzero(faulty)
    example = rule.example or NAMES[entries]
    is_problem = rule.level == 'problem' or (rule.level == 'problem if all' and bool(faulty.all()))
    return finding(
        rule.title,
        places,
        rule.advice + (rule.hint(coco) if len(places) else ''),
        lambda place: example(coco, place),
        is_problem and (masks or not rule.of_masks),
        _images_of(coco, entries, places),
    )


def _images_of(coco: CocoFile, entries: str, places: np.ndarray) -> np.ndarray:
    if entries == 'annotations':
        return coco.annotations.images[places]
    return places if entries == 'images' else places[:0]


def _repeated(values: Sequence[Any]) -> np.ndarray:
    """Return whether a value occurs earlier (N,); None does not count."""
    if len(set(values)) == len(values):  # much faster
        return np.zeros(len(values), dtype=bool)
    seen: set[Any] = {None}
    marks = []
    for value in values:
        marks.append(value is not None and value in seen)
        seen.add(value)
    return np.array(marks, dtype=bool)


def _unused(places: np.ndarray, number: int) -> np.ndarray:
    """Return whether an index below ``number`` is missing in ``places`` (``number``,)."""
    return ~np.isin(np.arange(number), places)


def _missing(values: Iterable[Any]) -> np.ndarray:
    return np.array([value is None for value in values], dtype=bool)


def _plain_names(coco: CocoFile) -> list[str | None]:
    """Return the names of the categories in lower case and without spaces."""
    return [name and ''.join(name.casefold().split()) for name in coco.categories.names]


def _alike(coco: CocoFile, place: int) -> str:
    names = _plain_names(coco)
    first = names.index(names[place])
    return f'{coco.category_name(first)} and {coco.category_name(place)}'


def _small(coco: CocoFile) -> np.ndarray:
    return coco.annotations.with_box & (coco.annotations.boxes[:, 2:] < 1).any(1)


def _edges(coco: CocoFile) -> tuple[np.ndarray, np.ndarray]:
    """Return left and top, and right and bottom, of the boxes (M, 2)."""
    left_top, sides = np.split(coco.annotations.boxes, 2, axis=1)
    return left_top, left_top + sides


def _outside(coco: CocoFile) -> np.ndarray:
    low, high = _edges(coco)
    outside = ((low >= coco.sizes_of_annotated_images) | (high <= 0)).any(1)
    return coco.annotations.with_box & outside & ~_small(coco)


def _over_the_edge(coco: CocoFile) -> np.ndarray:
    low, high = _edges(coco)
    beyond = np.maximum(-low, high - coco.sizes_of_annotated_images).max(1)
    return (beyond > TOLERANCE) & ~_small(coco) & ~_outside(coco)


def _with_reference(coco: CocoFile, place: int, what: str) -> str:
    number = coco.annotations.raw[place].get(f'{what}_id')
    return f'{coco.annotation_name(place)} of {what} {number!r}'


def _with_box(coco: CocoFile, place: int) -> str:
    box = ', '.join(f'{number:.6g}' for number in coco.annotations.raw[place]['bbox'])
    return f'{coco.annotation_name(place)} with bbox [{box}]'


def _with_sizes(coco: CocoFile, place: int) -> str:
    size = 'x'.join(f'{side:g}' for side in coco.images.sizes[coco.annotations.images[place]])
    return f'{_with_box(coco, place)} (the image is {size})'


def _fraction_hint(coco: CocoFile) -> str:
    boxes = coco.annotations.boxes[coco.annotations.with_box]
    if len(boxes) and boxes.min() >= 0 and boxes.max() <= 1:
        return '; all boxes seem to be fractions of the image but must be in pixels'
    return ''


def _corner_hint(coco: CocoFile) -> str:
    boxes = coco.annotations.boxes[coco.annotations.with_box]
    faulty = np.count_nonzero(_outside(coco) | _over_the_edge(coco))
    if faulty > MANY * len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all():
        return (
            '; the boxes seem to be [left, top, right, bottom] but must be '
            '[left, top, width, height]'
        )
    return ''


def _other_mask_size(coco: CocoFile) -> np.ndarray:
    sizes = coco.sizes_of_annotated_images
    known = (coco.annotations.masks == Mask.RLE) & np.isfinite(sizes).all(1)
    return known & (coco.annotations.mask_sizes != np.floor(sizes)).any(1)


def _is_id(value: Any) -> bool:
    """Return whether images and categories of this id are found."""
    return type(value) is str or (type(value) in NUMBERS and abs(value) < LARGEST_ID)


def _is_object_id(value: Any) -> bool:
    """Return whether the COCO metric can convert an id to a number."""
    if type(value) is float:  # NaN too
        return True
    if type(value) is not str:
        return _is_id(value)
    try:
        return abs(float(value)) < LARGEST_ID
    except ValueError:
        return False


def _wrong_ids(coco: CocoFile, entries: str) -> np.ndarray:
    """Return which ids are neither numbers nor texts, or differ in this from the other ids."""
    ids = getattr(coco, entries).ids
    if getattr(coco, entries).plain_ids:
        return np.zeros(len(ids), dtype=bool)
    if entries == 'annotations':
        return np.array([not _is_object_id(number) for number in ids], dtype=bool)
    usable = np.array([_is_id(number) for number in ids], dtype=bool)
    texts = np.array([type(number) is str for number in ids], dtype=bool)
    mixed = texts.any() and not texts[usable].all()
    rarer = texts if texts.sum() <= (usable & ~texts).sum() else ~texts
    return ~usable | (rarer if mixed else False)


def _id_rules(entries: str, effect: str) -> tuple[Rule, ...]:
    def ids(coco: CocoFile) -> list[Any]:
        return getattr(coco, entries).ids

    def with_id(coco: CocoFile, place: int) -> str:
        return f'{NAMES[entries](coco, place)} with {ids(coco)[place]!r}'

    def unusual(coco: CocoFile) -> np.ndarray:
        if getattr(coco, entries).plain_ids:
            return np.zeros(len(ids(coco)), dtype=bool)
        not_int = np.array([type(number) is not int for number in ids(coco)], dtype=bool)
        return not_int & ~_wrong_ids(coco, entries)

    return (
        Rule(
            f'{entries} whose id is not an integer',
            lambda coco: _wrong_ids(coco, entries),
            "mmdet crashes on them or skips them; set each 'id' to a unique integer from 1",
            with_id,
            stops='always',
        ),
        Rule(
            f'{entries} whose id is a text or a fraction',
            unusual,
            "mmdet reads them, but other tools may not; set each 'id' to a unique integer from 1",
            with_id,
            level='note',
        ),
        Rule(
            f'{entries} with a duplicate id',
            lambda coco: _repeated(
                ids(coco)
                if getattr(coco, entries).plain_ids
                else [number if _is_id(number) else None for number in ids(coco)]
            ),
            f'{effect}; renumber them',
            with_id,
            stops='always',
        ),
    )


def _zero_ids(coco: CocoFile) -> np.ndarray:
    ids = coco.annotations.ids
    plain = coco.annotations.plain_ids
    numbers = ids if plain else [float(n) if _is_object_id(n) else np.nan for n in ids]
    return np.array(numbers) == 0


def _wrong_areas(coco: CocoFile) -> np.ndarray:
    places = np.flatnonzero(~(coco.annotations.areas > 0) & ~_small(coco))
    wrong = np.zeros(len(coco.annotations.raw), dtype=bool)
    for place in places:
        area: Any = coco.annotations.raw[place].get('area')
        wrong[place] = type(area) not in NUMBERS or area <= 0
    return wrong


def _large_areas(coco: CocoFile) -> np.ndarray:
    areas = coco.annotations.areas
    large = areas > LARGEST_AREA
    for place in np.flatnonzero(np.isnan(areas)):
        area: Any = coco.annotations.raw[place].get('area')
        large[place] = type(area) in NUMBERS and area > LARGEST_AREA
    return large


def _with_value(key: str) -> Callable[[CocoFile, int], str]:
    def describe(coco: CocoFile, place: int) -> str:
        entry = coco.annotations.raw[place]
        said = f'with {key}={json.dumps(entry[key])}' if key in entry else f'without {key}'
        return f'{coco.annotation_name(place)} {said}'

    return describe


def _wrong_crowds(coco: CocoFile) -> np.ndarray:
    # the default is neither 0 nor 1
    return np.array([e.get('iscrowd') not in (0, 1) for e in coco.annotations.raw], dtype=bool)


def _doubled(coco: CocoFile) -> np.ndarray:
    """Return which objects have image, category and box of an earlier object (M,)."""
    entries = coco.annotations
    usable = entries.with_box & ~entries.crowds & (entries.images >= 0) & (entries.categories >= 0)
    rows = np.column_stack([entries.images, entries.categories, entries.boxes])[usable]
    # rows that differ hardly ever have the same product, and sorting numbers is much faster
    products = rows @ np.random.default_rng(0).random(rows.shape[1])
    _, places, counts = np.unique(products, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(counts[places] > 1)
    doubled = np.zeros(len(rows), dtype=bool)
    doubled[candidates] = _repeated([tuple(row) for row in rows[candidates].tolist()])
    found = np.zeros(len(usable), dtype=bool)
    found[np.flatnonzero(usable)[doubled]] = True
    return found


def _misspelled(coco: CocoFile) -> np.ndarray:
    """Return which categories have nearly the name of an earlier category."""
    names = [name or '' for name in coco.categories.names]
    plain = _plain_names(coco)
    second = {
        names.index(two)
        for one, two in similar_names(list(dict.fromkeys(filter(None, names))))
        if plain[names.index(one)] != plain[names.index(two)]
    }
    return np.array([place in second for place in range(len(names))], dtype=bool)


def _with_similar(coco: CocoFile, place: int) -> str:
    name = coco.categories.names[place] or ''
    others = [other for other in coco.categories.names[:place] if other]
    similar = next(one for one, _ in similar_names([*others, name]) if _ == name)
    return f'{similar!r} and {name!r}'


def _objects_by_class(coco: CocoFile) -> np.ndarray:
    entries = coco.annotations
    return np.bincount(
        entries.categories[(entries.categories >= 0) & ~entries.crowds],
        minlength=len(coco.categories.ids),
    )


def _rare(coco: CocoFile) -> np.ndarray:
    return rare_classes(_objects_by_class(coco))


def _with_count(coco: CocoFile, place: int) -> str:
    return f'{coco.category_name(place)} with {_objects_by_class(coco)[place]}'


def _of_kind(*kinds: Mask) -> Callable[[CocoFile], np.ndarray]:
    return lambda coco: np.isin(coco.annotations.masks, kinds)


RULES: dict[str, tuple[Rule, ...]] = dict(
    images=(
        *_id_rules('images', 'mmdet reads only the last of them'),
        Rule(
            'images without a file name',
            lambda coco: _missing(coco.images.names),
            "mmdet crashes on them; add a 'file_name' to each",
            stops='always',
        ),
        Rule(
            'images with the same file name as another image',
            lambda coco: _repeated(coco.images.names),
            'the objects of one file are split over several images; merge these images',
        ),
        Rule(
            'images without width and height',
            lambda coco: np.logical_not((coco.images.sizes >= 1).all(1)),
            "mmdet crashes on them or skips them; add 'width' and 'height' in pixels",
            stops='always',
        ),
        Rule(
            'images without objects',
            lambda coco: _unused(coco.annotations.images, len(coco.images.ids)),
            'this is correct if the images show no object; mmdet trains on them only with '
            'filter_empty_gt=False',
            level='problem if all',
        ),
    ),
    categories=(
        *_id_rules('categories', 'mmdet reads only the last of them'),
        Rule(
            'categories without a name',
            lambda coco: _missing(coco.categories.names),
            "mmdet looks up categories by 'name'; add a 'name' to each",
            stops='always',
        ),
        Rule(
            'categories with the same name as another category',
            lambda coco: _repeated(coco.categories.names),
            'mmdet counts both as classes, which shifts the labels of all later classes; merge the '
            'categories',
            stops='always',
        ),
        Rule(
            'categories whose names differ only in case or spaces',
            lambda coco: _repeated(_plain_names(coco)) & ~_repeated(coco.categories.names),
            'mmdet treats them as different classes; if they are the same class, use one name',
            _alike,
            level='note',
        ),
        Rule(
            'categories whose names differ in one or two letters',
            _misspelled,
            'mmdet treats them as different classes; if a name is misspelled, merge the categories',
            _with_similar,
            level='note',
        ),
        Rule(
            f'categories with fewer than {FEW} objects',
            _rare,
            f'the median class has more than {FREQUENT}; a detector hardly learns so rare a class, '
            'and its name may be misspelled',
            _with_count,
            level='note',
        ),
        Rule(
            'categories without objects',
            lambda coco: _unused(coco.annotations.categories, len(coco.categories.ids)),
            'a model cannot learn these classes from this file, and their AP is -1',
            level='note',
        ),
    ),
    annotations=(
        *_id_rules('annotations', 'mmdet crashes on them'),
        Rule(
            'annotations with the id 0',
            _zero_ids,
            'the COCO metric treats id 0 as "no match" and counts a correct detection as wrong; '
            'number annotations from 1 (ids of images and categories may start at 0)',
        ),
        Rule(
            'annotations whose image is not in the file',
            lambda coco: coco.annotations.images < 0,
            "mmdet skips them silently; correct 'image_id' or delete the annotations",
            lambda coco, place: _with_reference(coco, place, 'image'),
        ),
        Rule(
            'annotations whose category is not in the file',
            lambda coco: coco.annotations.categories < 0,
            "mmdet skips them silently; correct 'category_id' or add the category",
            lambda coco, place: _with_reference(coco, place, 'category'),
        ),
        Rule(
            'annotations without a box of four numbers',
            lambda coco: ~coco.annotations.with_box,
            "mmdet crashes on them; write 'bbox' as [left, top, width, height] in pixels",
            stops='always',
        ),
        Rule(
            'annotations whose iscrowd is neither 0 nor 1',
            _wrong_crowds,
            "mmdet ignores these objects or crashes in the evaluation; set 'iscrowd' to 0, or to 1 "
            'for a group of objects to ignore',
            _with_value('iscrowd'),
            stops='always',
        ),
        Rule(
            'crowds in a file without other objects',
            lambda coco: coco.annotations.crowds & coco.annotations.crowds.all(),
            "mmdet ignores them, so nothing is left to train on; set 'iscrowd' to 0",
        ),
        Rule(
            'annotations with a true ignore',
            lambda coco: np.array([bool(e.get('ignore')) for e in coco.annotations.raw], bool),
            "mmdet skips them in training and counts them as missed in evaluation; set 'iscrowd' "
            "to 1 instead of 'ignore', or delete them",
            stops='never',
        ),
        Rule(
            'objects that repeat image, category and box of another object',
            _doubled,
            'a perfect detector finds the object once and misses the others, which lowers the AP; '
            'delete them',
            _with_box,
        ),
        Rule(
            'boxes narrower or lower than one pixel',
            _small,
            'mmdet silently skips them in training and counts them as missed in evaluation; delete '
            'or correct them',
            _with_box,
            _fraction_hint,
        ),
        Rule(
            'boxes outside their image',
            _outside,
            'mmdet silently skips them in training and counts them as missed in evaluation; '
            'correct the boxes or the size of the image',
            _with_sizes,
            _corner_hint,
        ),
        Rule(
            'boxes that extend beyond their image by more than one pixel',
            _over_the_edge,
            'mmdet clips them at the edge; correct the boxes or the size of the image',
            _with_sizes,
            _corner_hint,
            stops='never',
        ),
        Rule(
            'annotations without an area above 0',
            _wrong_areas,
            "mmdet crashes on them or skips them; set 'area' to the area of the mask or box in "
            'pixels',
            stops='always',
        ),
        Rule(
            'annotations whose area is NaN',
            lambda coco: (
                np.isnan(coco.annotations.areas)
                & ~_wrong_areas(coco)
                & ~_small(coco)
                & ~_large_areas(coco)
            ),
            "the COCO metric counts them as small, medium and large; set 'area' to a number",
            level='note',
        ),
        Rule(
            f'annotations with an area above {LARGEST_AREA:.0e} pixels',
            _large_areas,
            "the COCO metric ignores them; set 'area' to the area of the mask or box in pixels",
            _with_value('area'),
        ),
        Rule(
            'polygons with fewer than three points',
            _of_kind(Mask.SHORT),
            'mmdet drops them, and skips objects without another polygon in training, while the '
            'COCO metric reads four numbers as a box; write at least three points x, y per polygon '
            'or delete the polygon',
            of_masks=True,
        ),
        Rule(
            'masks that are neither polygons nor RLE',
            _of_kind(Mask.WRONG),
            "training with masks crashes on them; write 'segmentation' as lists of numbers "
            "[[x, y, x, y, ...]] or as RLE {'counts': ..., 'size': [height, width]}",
            of_masks=True,
            stops='always',
        ),
        Rule(
            'RLE masks whose counts do not fill their size',
            _of_kind(Mask.UNFILLED),
            'the decoded mask is wrong or mmdet crashes; encode the mask again, so that the counts '
            'add up to height x width',
            of_masks=True,
            stops='always',
        ),
        Rule(
            'RLE masks whose size differs from the image size',
            _other_mask_size,
            "set 'size' to [height, width] of the image and encode the mask in this size",
            of_masks=True,
        ),
        Rule(
            'masks without a pixel in their image',
            empty_masks,
            'a detector learns an empty mask, and the COCO metric counts every prediction as '
            'wrong; draw the mask again or delete the object',
            of_masks=True,
        ),
        Rule(
            'masks with some polygons of fewer than three points',
            _of_kind(Mask.PARTLY),
            'mmdet drops these polygons in training and uses the others; delete them',
            level='note',
        ),
        Rule(
            'masks with numbers that are texts or fractions',
            _of_kind(Mask.UNUSUAL),
            'mmdet converts them, but other tools may not; write integers in RLE, and numbers in '
            'polygons',
            level='note',
        ),
        Rule(
            'objects without a mask',
            _of_kind(Mask.NONE, Mask.EMPTY),
            'a detector of boxes trains on them, but a detector of masks does not; add '
            "'segmentation' to train masks",
            level='note',
        ),
    ),
)
