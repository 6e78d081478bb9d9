"""Check the entries of an annotation file: ids, references, boxes, areas and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .coco_file import CocoFile, Mask
from .finding import Finding, finding

TOLERANCE = 1.0  # pixels by which rounding may move a box over the edge of its image
MANY = 0.2  # share of faulty boxes above which the whole file probably has the wrong format


def check_entries(coco: CocoFile) -> list[Finding]:
    """Check images, categories and annotations without opening image files."""
    return [
        *_check_images(coco),
        *_check_categories(coco),
        *_check_annotations(coco),
        *_check_boxes(coco),
        *_check_masks(coco),
    ]


def _check_images(coco: CocoFile) -> list[Finding]:
    images = coco.images
    without_file = [place for place, name in enumerate(images.names) if name is None]
    named = [place for place, name in enumerate(images.names) if name is not None]
    same_file = [named[i] for i in _doubled([images.names[place] for place in named])]
    sizes = images.sizes
    bad_sizes = np.flatnonzero(~(np.isfinite(sizes).all(1) & (sizes >= 1).all(1)))
    objects = np.bincount(
        coco.annotations.images[coco.annotations.images >= 0], minlength=len(images.ids)
    )
    empty = np.flatnonzero(objects == 0)
    return [
        *_check_ids('images', images.ids, coco.image_name),
        finding(
            'images without a file name',
            without_file,
            coco.image_name,
            "mmdet crashes on them; add a 'file_name' to each",
        ),
        finding(
            'images with the same file name as another image',
            same_file,
            coco.image_name,
            'the objects of one file are split over several images; merge these images',
            images=same_file,
        ),
        finding(
            'images without width and height',
            bad_sizes,
            coco.image_name,
            "mmdet crashes on them or skips them; add 'width' and 'height' in pixels",
            images=bad_sizes,
        ),
        finding(
            'images without objects',
            empty,
            coco.image_name,
            'this is correct if the images show no object; mmdet trains on them only with '
            'filter_empty_gt=False',
            is_problem=len(empty) == len(images.ids),
            images=empty,
        ),
    ]


def _check_categories(coco: CocoFile) -> list[Finding]:
    categories = coco.categories
    named = [place for place, name in enumerate(categories.names) if name is not None]
    nameless = [place for place, name in enumerate(categories.names) if name is None]
    doubled = [named[i] for i in _doubled([categories.names[place] for place in named])]
    plain = [''.join(str(categories.names[place]).casefold().split()) for place in named]
    like = {i: named[plain.index(plain[i])] for i in _doubled(plain) if named[i] not in doubled}
    used = np.bincount(
        coco.annotations.categories[coco.annotations.categories >= 0],
        minlength=len(categories.ids),
    )

    def describe(place: int) -> str:
        return repr(categories.names[place] or f'entry {place} of categories')

    return [
        *_check_ids('categories', categories.ids, describe),
        finding(
            'categories without a name',
            nameless,
            describe,
            "mmdet looks up categories by 'name'; add a 'name' to each",
        ),
        finding(
            'categories with the same name as another category',
            doubled,
            describe,
            'mmdet counts both as classes, which shifts the labels of all later classes; merge the '
            'categories',
        ),
        finding(
            'categories whose names differ only in case or spaces',
            list(like),
            lambda i: f'{describe(like[i])} and {describe(named[i])}',
            'mmdet treats them as different classes; if they are the same class, use one name',
            is_problem=False,
        ),
        finding(
            'categories without objects',
            np.flatnonzero(used == 0),
            describe,
            'a model cannot learn these classes from this file, and their AP is -1',
            is_problem=False,
        ),
    ]


def _check_annotations(coco: CocoFile) -> list[Finding]:
    annotations = coco.annotations
    zeros = [place for place, number in enumerate(annotations.ids) if _is_zero(number)]
    no_image = np.flatnonzero(annotations.images < 0)
    no_category = np.flatnonzero(annotations.categories < 0)
    return [
        *_check_ids('annotations', annotations.ids, coco.annotation_name),
        finding(
            'annotations with the id 0',
            zeros,
            coco.annotation_name,
            'the COCO metric treats id 0 as "no match" and counts a correct detection as wrong; '
            'number annotations from 1 (ids of images and categories may start at 0)',
        ),
        finding(
            'annotations whose image is not in the file',
            no_image,
            lambda place: (
                f'{coco.annotation_name(place)} of image {annotations.raw[place].get("image_id")!r}'
            ),
            "mmdet skips them silently; correct 'image_id' or delete the annotations",
        ),
        finding(
            'annotations whose category is not in the file',
            no_category,
            lambda place: (
                f'{coco.annotation_name(place)} of category '
                f'{annotations.raw[place].get("category_id")!r}'
            ),
            "mmdet skips them silently; correct 'category_id' or add the category",
            images=annotations.images[no_category],
        ),
    ]


def _check_boxes(coco: CocoFile) -> list[Finding]:
    annotations, boxes = coco.annotations, coco.annotations.boxes
    is_box = np.isfinite(boxes).all(1)
    no_box = np.flatnonzero(~is_box)
    with np.errstate(invalid='ignore', over='ignore'):  # invalid boxes are NaN
        left, top, width, height = boxes.T
        small = is_box & ((width < 1) | (height < 1))
        image_width, image_height = _image_sizes(coco).T
        beyond = np.maximum.reduce(
            [-left, -top, left + width - image_width, top + height - image_height]
        )
        apart = (
            (left >= image_width)
            | (top >= image_height)
            | (left + width <= 0)
            | (top + height <= 0)
        )
    apart &= is_box & ~small
    over = is_box & ~small & ~apart & (beyond > TOLERANCE)
    areas = annotations.areas
    no_area = np.flatnonzero(~(areas > 0) & ~small)
    small, apart, over = (np.flatnonzero(chosen) for chosen in (small, apart, over))

    def with_box(place: int) -> str:
        return f'{coco.annotation_name(place)} with bbox {_short(annotations.raw[place]["bbox"])}'

    def with_sizes(place: int) -> str:
        size = 'x'.join(f'{side:g}' for side in coco.images.sizes[annotations.images[place]])
        return f'{with_box(place)} (the image is {size})'

    return [
        finding(
            'annotations without a box of four numbers',
            no_box,
            coco.annotation_name,
            "mmdet crashes on them; write 'bbox' as [left, top, width, height] in pixels",
            images=annotations.images[no_box],
        ),
        finding(
            'boxes narrower or lower than one pixel',
            small,
            with_box,
            'mmdet silently skips them in training and counts them as missed in evaluation; delete '
            'or correct them' + _fraction_hint(boxes),
            images=annotations.images[small],
        ),
        finding(
            'boxes outside their image',
            apart,
            with_sizes,
            'mmdet silently skips them in training and counts them as missed in evaluation; '
            'correct the boxes or the size of the image'
            + _corner_hint(coco, len(apart) + len(over)),
            images=annotations.images[apart],
        ),
        finding(
            'boxes that extend beyond their image by more than one pixel',
            over,
            with_sizes,
            'mmdet clips them at the edge; correct the boxes or the size of the image'
            + _corner_hint(coco, len(apart) + len(over)),
            images=annotations.images[over],
        ),
        finding(
            'annotations without an area above 0',
            no_area,
            coco.annotation_name,
            "mmdet crashes on them or skips them; set 'area' to the area of the mask or box in "
            'pixels',
            images=annotations.images[no_area],
        ),
    ]


def _check_masks(coco: CocoFile) -> list[Finding]:
    annotations = coco.annotations
    short = np.flatnonzero(annotations.masks == Mask.SHORT)
    wrong = np.flatnonzero(annotations.masks == Mask.WRONG)
    sizes = _image_sizes(coco)
    known = (annotations.masks == Mask.RLE) & np.isfinite(sizes).all(1)
    other_size = np.flatnonzero(known & (annotations.mask_sizes != sizes).any(1))
    return [
        finding(
            'polygons with fewer than three points',
            short,
            coco.annotation_name,
            'mmdet drops them, and skips objects without another polygon in training, while the '
            'COCO metric reads four numbers as a box; write at least three points x, y per polygon '
            'or delete the polygon',
            images=annotations.images[short],
        ),
        finding(
            'masks that are neither polygons nor RLE',
            wrong,
            coco.annotation_name,
            "training with masks crashes on them; write 'segmentation' as lists of numbers "
            "[[x, y, x, y, ...]] or as RLE {'counts': ..., 'size': [height, width]} whose counts "
            'add up to height x width',
            images=annotations.images[wrong],
        ),
        finding(
            'RLE masks whose size differs from the image size',
            other_size,
            coco.annotation_name,
            "set 'size' to [height, width] of the image and encode the mask in this size",
            images=annotations.images[other_size],
        ),
    ]


def _check_ids(what: str, ids: Sequence[Any], describe: Any) -> list[Finding]:
    whole = [place for place, number in enumerate(ids) if type(number) is int]
    others = [place for place, number in enumerate(ids) if type(number) is not int]
    doubled = [whole[i] for i in _doubled([ids[place] for place in whole])]
    consequence = {
        'images': 'mmdet reads only the last of them',
        'categories': 'mmdet reads only the last of them',
        'annotations': 'mmdet crashes on them',
    }[what]
    return [
        finding(
            f'{what} whose id is not an integer',
            others,
            lambda place: f'{describe(place)} with {ids[place]!r}',
            "set each 'id' to a unique integer from 1",
        ),
        finding(
            f'{what} with a duplicate id',
            doubled,
            lambda place: f'{describe(place)} with {ids[place]}',
            f'{consequence}; renumber them',
        ),
    ]


def _doubled(values: Sequence[Any]) -> list[int]:
    """Return the indices of values that occur earlier in the sequence."""
    if len(set(values)) == len(values):
        return []
    seen: set[Any] = set()
    places = []
    for place, value in enumerate(values):
        if value in seen:
            places.append(place)
        seen.add(value)
    return places


def _is_zero(number: Any) -> bool:
    return type(number) is int and number == 0


def _image_sizes(coco: CocoFile) -> np.ndarray:
    """Return width and height of the image of each annotation, (M, 2), NaN without an image."""
    places = coco.annotations.images
    sizes = coco.images.sizes[places]
    sizes[places < 0] = np.nan
    return sizes


def _short(box: Sequence[float]) -> str:
    return f'[{", ".join(f"{number:.6g}" for number in box)}]'


def _fraction_hint(boxes: np.ndarray) -> str:
    finite = boxes[np.isfinite(boxes).all(1)]
    if len(finite) and finite.min() >= 0 and finite.max() <= 1:
        return '; all boxes seem to be fractions of the image but must be in pixels'
    return ''


def _corner_hint(coco: CocoFile, faulty: int) -> str:
    """Return a hint if the boxes look like left, top, right, bottom, or ''."""
    boxes = coco.annotations.boxes[np.isfinite(coco.annotations.boxes).all(1)]
    if faulty > MANY * len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all():
        return (
            '; the boxes seem to be [left, top, right, bottom] but must be '
            '[left, top, width, height]'
        )
    return ''
