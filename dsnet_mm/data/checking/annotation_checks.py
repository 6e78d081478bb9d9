"""Checks of what stands in the file: ids, references, boxes, areas and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .coco_file import CocoFile, Mask
from .finding import Finding, finding

TOLERANCE = 1.0  # pixels that a box may reach over the edge: what rounding does
MANY = 0.2  # share of boxes from which a fault is that of the whole file


def check_entries(coco: CocoFile) -> list[Finding]:
    """Check images, categories and annotations, without opening an image."""
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
            "mmdet stops there: write their 'file_name'",
        ),
        finding(
            'images with the file of another one',
            same_file,
            coco.image_name,
            'the objects of one file are split over two images: merge them',
            images=same_file,
        ),
        finding(
            'images without width and height',
            bad_sizes,
            coco.image_name,
            "mmdet stops there or leaves them out: write 'width' and 'height' in pixels",
            images=bad_sizes,
        ),
        finding(
            'images without objects',
            empty,
            coco.image_name,
            'this is as it should be if nothing is to be found in them; mmdet trains on them only '
            'with filter_empty_gt=False',
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
            "mmdet finds categories by their 'name': write it",
        ),
        finding(
            'categories with the name of another one',
            doubled,
            describe,
            'mmdet counts both as classes and shifts all that follow: merge them into one',
        ),
        finding(
            'categories whose names differ in capitals or blanks alone',
            list(like),
            lambda i: f'{describe(like[i])} and {describe(named[i])}',
            'mmdet takes them for different classes: if they are one, write one name in all labels',
            is_problem=False,
        ),
        finding(
            'categories without objects',
            np.flatnonzero(used == 0),
            describe,
            'nothing can be learned of them here, and their AP is -1',
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
            'COCO\'s metric takes 0 for "not found" and counts a right detection as a wrong one: '
            'number annotations from 1 (images and categories may begin with 0)',
        ),
        finding(
            'annotations of no image in the file',
            no_image,
            lambda place: (
                f'{coco.annotation_name(place)} of image {annotations.raw[place].get("image_id")!r}'
            ),
            "mmdet leaves them out in silence: correct their 'image_id' or delete them",
        ),
        finding(
            'annotations of no category in the file',
            no_category,
            lambda place: (
                f'{coco.annotation_name(place)} of category '
                f'{annotations.raw[place].get("category_id")!r}'
            ),
            "mmdet leaves them out in silence: correct their 'category_id' or add the category",
            images=annotations.images[no_category],
        ),
    ]


def _check_boxes(coco: CocoFile) -> list[Finding]:
    annotations, boxes = coco.annotations, coco.annotations.boxes
    is_box = np.isfinite(boxes).all(1)
    no_box = np.flatnonzero(~is_box)
    with np.errstate(invalid='ignore', over='ignore'):  # what is no box is NaN
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
            "mmdet stops there: write 'bbox' as [left, top, width, height] in pixels",
            images=annotations.images[no_box],
        ),
        finding(
            'boxes that are empty or less than a pixel wide or high',
            small,
            with_box,
            'mmdet leaves them out of training in silence, and counts them as not found in '
            'evaluation: delete or correct them' + _fraction_hint(boxes),
            images=annotations.images[small],
        ),
        finding(
            'boxes outside their image',
            apart,
            with_sizes,
            'mmdet leaves them out of training in silence, and counts them as not found in '
            'evaluation: correct them, or the size of the image'
            + _corner_hint(coco, len(apart) + len(over)),
            images=annotations.images[apart],
        ),
        finding(
            'boxes that reach over the edge of their image by more than a pixel',
            over,
            with_sizes,
            'mmdet cuts them off at the edge: correct them, or the size of the image'
            + _corner_hint(coco, len(apart) + len(over)),
            images=annotations.images[over],
        ),
        finding(
            'annotations without an area above 0',
            no_area,
            coco.annotation_name,
            "mmdet stops there or leaves them out: write 'area', in pixels, of the mask or the box",
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
            'polygons of fewer than three points',
            short,
            coco.annotation_name,
            "mmdet drops them, and an object that has no other from training, while COCO's metric "
            'takes four numbers for a box: give each polygon three points x, y or delete it',
            images=annotations.images[short],
        ),
        finding(
            'masks that are neither polygons nor RLE',
            wrong,
            coco.annotation_name,
            "training on masks stops there: write 'segmentation' as a list of lists of numbers "
            "[[x, y, x, y, ...]], or as RLE {'counts': ..., 'size': [height, width]} that fills "
            'its size',
            images=annotations.images[wrong],
        ),
        finding(
            'RLE masks of another size than their image',
            other_size,
            coco.annotation_name,
            "write 'size' as [height, width] of the image and encode the mask for it",
            images=annotations.images[other_size],
        ),
    ]


def _check_ids(what: str, ids: Sequence[Any], describe: Any) -> list[Finding]:
    whole = [place for place, number in enumerate(ids) if type(number) is int]
    others = [place for place, number in enumerate(ids) if type(number) is not int]
    doubled = [whole[i] for i in _doubled([ids[place] for place in whole])]
    consequence = {
        'images': 'only the last of them is read',
        'categories': 'only the last of them is read',
        'annotations': 'mmdet stops there',
    }[what]
    return [
        finding(
            f'{what} without a whole number as id',
            others,
            lambda place: f'{describe(place)} with {ids[place]!r}',
            "give each an 'id' of its own, a whole number from 1",
        ),
        finding(
            f'{what} with the id of another one',
            doubled,
            lambda place: f'{describe(place)} with {ids[place]}',
            f'{consequence}: number them anew',
        ),
    ]


def _doubled(values: Sequence[Any]) -> list[int]:
    """Where a value stands that stood before."""
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
    """Width and height of the image of each annotation (M, 2), NaN where there is none."""
    places = coco.annotations.images
    sizes = coco.images.sizes[places]
    sizes[places < 0] = np.nan
    return sizes


def _short(box: Sequence[float]) -> str:
    return f'[{", ".join(f"{number:.6g}" for number in box)}]'


def _fraction_hint(boxes: np.ndarray) -> str:
    finite = boxes[np.isfinite(boxes).all(1)]
    if len(finite) and finite.min() >= 0 and finite.max() <= 1:
        return '; all boxes here seem to be fractions of the image, but must be in pixels'
    return ''


def _corner_hint(coco: CocoFile, faulty: int) -> str:
    """Say so if the boxes look like left, top, right, bottom."""
    boxes = coco.annotations.boxes[np.isfinite(coco.annotations.boxes).all(1)]
    if faulty > MANY * len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all():
        return (
            '; the boxes here seem to be [left, top, right, bottom], but must be '
            '[left, top, width, height]'
        )
    return ''
