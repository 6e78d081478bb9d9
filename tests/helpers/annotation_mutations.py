"""Mutate a small faultless annotation file, one field at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

WIDTH, HEIGHT = 64, 48
CLASSES = ('circle', 'square')
MISSING = object()

Content = dict[str, Any]
Mutate = Callable[[Content], None]


def write_images(folder: Path) -> None:
    """Write the images of the faultless file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in 'abc':
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{name}.png')


def faultless() -> Content:
    """Return polygons, both kinds of RLE, and a crowd, on three images."""
    annotations = [
        thing(1, 1, 1, (8, 6, 20, 16)),
        thing(2, 1, 2, (34, 20, 22, 20), compressed),
        thing(3, 2, 2, (4, 4, 30, 20)),
        thing(4, 2, 1, (20, 26, 24, 18), runs),
        thing(5, 3, 1, (10, 10, 24, 24)),
        thing(6, 3, 2, (36, 4, 24, 36), runs),
    ]
    annotations[-1]['iscrowd'] = 1
    return dict(
        info={},
        licenses=[],
        images=[
            dict(id=number, file_name=f'{name}.png', width=WIDTH, height=HEIGHT)
            for number, name in enumerate('abc', start=1)
        ],
        annotations=annotations,
        categories=[
            dict(id=number, name=name, supercategory='shape')
            for number, name in enumerate(CLASSES, start=1)
        ],
    )


def polygon(left: int, top: int, width: int, height: int) -> list[list[int]]:
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


def compressed(*box: int) -> dict[str, Any]:
    (rle,) = mask_utils.frPyObjects(polygon(*box), HEIGHT, WIDTH)
    return dict(size=[HEIGHT, WIDTH], counts=rle['counts'].decode())


def runs(*box: int) -> dict[str, Any]:
    """Return the runs of a mask, column by column, the background first."""
    pixels = mask_utils.decode(compressed(*box)).ravel(order='F')
    ends = [*np.flatnonzero(np.diff(pixels)) + 1, pixels.size]
    return dict(size=[HEIGHT, WIDTH], counts=np.diff([0, *ends]).tolist())


def thing(number, image, category, box, mask=polygon) -> dict[str, Any]:
    return dict(
        id=number,
        image_id=image,
        category_id=category,
        bbox=list(box),
        area=box[2] * box[3],
        iscrowd=0,
        segmentation=mask(*box),
    )


def mutations() -> Iterator[tuple[str, Content]]:
    """Yield the name and the content of each mutated file."""
    for name, mutate in _table():
        content = faultless()
        mutate(content)
        yield name, content


def _table() -> Iterator[tuple[str, Mutate]]:
    for (key, field), values in FIELDS.items():
        for name, value in values.items():
            yield f'{key}.{field} {name}', _set(key, field, value)
        for name, value in EVERYWHERE.items() if field in faultless()[key][0] else ():
            yield f'{key}.{field} {name} everywhere', _set_all(key, field, value)
    for place, part in enumerate(('left', 'top', 'width', 'height')):
        for name, value in (FEW if place % 2 else NUMBERS).items():
            yield f'annotations.bbox {part} {name}', _set_part(place, value)
    for key in ('info', 'licenses', 'images', 'annotations', 'categories'):
        for name, value in FEW.items():
            yield f'{key} {name}', _set_list(key, value)
        if key not in ('info', 'licenses'):
            for name, value in FEW.items():
                yield f'{key} with an entry {name}', _set_entry(key, value)
    for name, value in MASKS.items():
        yield f'mask {name}', _set('annotations', 'segmentation', value)
    yield from OTHERS.items()


def _put(entry: dict[str, Any], field: str, value: Any) -> None:
    if value is MISSING:
        entry.pop(field, None)
    else:
        entry[field] = copy.deepcopy(value(entry[field]) if callable(value) else value)


def _set(key: str, field: str, value: Any) -> Mutate:
    return lambda content: _put(content[key][0], field, value)


def _set_all(key: str, field: str, value: Any) -> Mutate:
    def mutate(content: Content) -> None:
        for entry in content[key]:
            _put(entry, field, value)
        if (key, field) in REFERENCES:  # the objects keep their image and category
            for entry in content['annotations']:
                _put(entry, REFERENCES[key, field], value)

    return mutate


def _set_part(place: int, value: Any) -> Mutate:
    def mutate(content: Content) -> None:
        box = content['annotations'][0]['bbox']
        if value is MISSING:
            del box[place]
        else:
            box[place] = value(box[place]) if callable(value) else value

    return mutate


def _set_list(key: str, value: Any) -> Mutate:
    return lambda content: _put(content, key, value)


def _set_entry(key: str, value: Any) -> Mutate:
    def mutate(content: Content) -> None:
        if value is not MISSING:
            content[key].append(value(content[key][0]) if callable(value) else value)
        else:
            del content[key][-1]

    return mutate


def _double(key: str, **changes: Any) -> Mutate:
    """Repeat the first entry with some changes."""
    return lambda content: content[key].append({**copy.deepcopy(content[key][0]), **changes})


def _with(key: str, place: int, **changes: Any) -> Mutate:
    return lambda content: content[key][place].update(changes)


def _reverse(key: str) -> Mutate:
    return lambda content: content[key].reverse()


REFERENCES = {('images', 'id'): 'image_id', ('categories', 'id'): 'category_id'}

VALUES: dict[str, Any] = {
    'missing': MISSING,
    'null': None,
    'an empty text': '',
    'a text': 'text',
    'a list': [1],
    'an empty list': [],
    'an object': dict(a=1),
    'true': True,
    'false': False,
    'a fraction': 1.5,
    'negative': -1,
    'zero': 0,
    'NaN': float('nan'),
    'infinite': float('inf'),
    'huge': 10**12,
    'beyond floats': 10**400,
    'its text': str,
}
FEW = {
    name: VALUES[name]
    for name in ('missing', 'null', 'a text', 'an empty list', 'an object', 'true', 'zero', 'NaN')
}
NUMBERS = {name: value for name, value in VALUES.items() if name != 'missing'} | {
    'its float': float,
    'negated': lambda number: -number,
    'a little more': lambda number: number + 0.25,
}
TEXTS = VALUES | {'a text in capitals': str.upper, 'a text with a blank': lambda text: f' {text}'}
EVERYWHERE: dict[str, Any] = {
    'missing': MISSING,
    'null': lambda old: None,
    'its text': str,
    'a list': lambda old: [old],
    'its number plus 10': lambda old: old + 10 if isinstance(old, int) else old,
    'its float': lambda old: float(old) if isinstance(old, int) else old,
    'the same': lambda old: 1 if isinstance(old, int) else 'same',
}
IDS = VALUES | {'its float': float, 'unknown': 77, 'one': 1, 'two': 2}

FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ('images', 'id'): IDS,
    ('images', 'file_name'): TEXTS
    | {
        'of another image': 'b.png',
        'of no file': 'd.png',
        'with a folder that returns': '../images/a.png',
        'with a backslash': '.\\a.png',
    },
    ('images', 'width'): NUMBERS | {'missing': MISSING, 'one more': WIDTH + 1},
    ('images', 'height'): NUMBERS | {'missing': MISSING, 'one more': HEIGHT + 1},
    ('annotations', 'id'): IDS,
    ('annotations', 'image_id'): IDS,
    ('annotations', 'category_id'): IDS,
    ('annotations', 'bbox'): VALUES
    | {
        'of three numbers': [8, 6, 20],
        'of five numbers': [8, 6, 20, 16, 1],
        'of four lists': [[8], [6], [20], [16]],
        'of zeros': [0, 0, 0, 0],
        'with corners': [40, 30, 60, 46],
        'outside': [70, 6, 20, 16],
        'left of the image': [-30, 6, 20, 16],
        'over the edge': [50, 6, 30, 16],
        'touching the edge': [44, 32, 20, 16],
        'by half a pixel over the edge': [44, 6, 20.5, 16],
        'as an object': dict(x=8, y=6, w=20, h=16),
        'of one pixel': [8, 6, 1, 1],
        'below one pixel': [8, 6, 0.9, 16],
        'in fractions': [0.125, 0.125, 0.3, 0.3],
        'as large as the image': [0, 0, WIDTH, HEIGHT],
    },
    ('annotations', 'area'): NUMBERS | {'missing': MISSING, 'half': lambda area: area / 2},
    ('annotations', 'iscrowd'): NUMBERS
    | {'missing': MISSING, 'one': 1, 'two': 2, 'the text 1': '1', 'the float 1': 1.0, '255': 255,
       '256': 256, '300': 300},
    ('annotations', 'ignore'): {
        'zero': 0, 'one': 1, 'true': True, 'false': False, 'null': None, 'a text': '0',
    },
    ('annotations', 'segmentation'): VALUES,
    ('annotations', 'attributes'): {name: VALUES[name] for name in ('null', 'a text', 'an object')},
    ('categories', 'id'): IDS,
    ('categories', 'name'): TEXTS | {'of another category': CLASSES[1]},
    ('categories', 'supercategory'): FEW,
    ('categories', 'keypoints'): {name: VALUES[name] for name in ('null', 'a list')},
}  # fmt: skip

SQUARE = [8, 6, 28, 6, 28, 22, 8, 22]
FILLED = runs(8, 6, 20, 16)
PACKED = compressed(8, 6, 20, 16)
MASKS: dict[str, Any] = {
    'of an empty polygon': [[]],
    'of two empty polygons': [[], []],
    'of an empty and a whole polygon': [[], SQUARE],
    'of a whole and an empty polygon': [SQUARE, []],
    'of two polygons': [SQUARE, [40, 6, 50, 6, 50, 16]],
    'of a point': [[8, 6]],
    'of two points': [[8, 6, 28, 22]],
    'of two points and a whole polygon': [[8, 6, 28, 22], SQUARE],
    'of a whole polygon and two points': [SQUARE, [8, 6, 28, 22]],
    'of an odd number': [SQUARE[:-1]],
    'of a whole polygon and an odd number': [SQUARE, SQUARE[:-1]],
    'of a polygon without its list': SQUARE,
    'of pairs': [[[8, 6], [28, 6], [28, 22]]],
    'of texts': [[str(number) for number in SQUARE]],
    'with one text': [[*SQUARE[:-1], '22']],
    'with a word': [[*SQUARE[:-1], 'x']],
    'with a large number': [[*SQUARE[:-2], 10**4, 22]],
    'with a larger number': [[*SQUARE[:-2], 10**7, 22]],
    'with a huge number': [[*SQUARE[:-2], 10**12, 22]],
    'of the odd number and a whole polygon': [SQUARE[:-1], SQUARE],
    'with null': [[*SQUARE[:-1], None]],
    'with true': [[*SQUARE[:-1], True]],
    'with NaN': [[*SQUARE[:-1], float('nan')]],
    'with infinity': [[*SQUARE[:-1], float('inf')]],
    'of floats': [[number + 0.5 for number in SQUARE]],
    'a little outside': [[8, 6, WIDTH + 0.4, 6, WIDTH + 0.4, 22, 8, 22]],
    'over the edge': [[8, 6, 90, 6, 90, 22, 8, 22]],
    'outside': [[70, 6, 90, 6, 90, 22, 70, 22]],
    'without area': [[8, 6, 8, 6, 8, 6]],
    'of a line': [[8, 6, 18, 6, 28, 6]],
    'a text in a list': ['mask.png'],
    'of a number in a list': [3],
    'of null in a list': [None],
    'RLE': FILLED,
    'compressed RLE': PACKED,
    'RLE that does not fill': dict(FILLED, counts=FILLED['counts'][:-1]),
    'RLE that overflows': dict(FILLED, counts=[*FILLED['counts'], 5]),
    'RLE without counts': dict(size=[HEIGHT, WIDTH]),
    'RLE with null': dict(FILLED, counts=None),
    'RLE with empty counts': dict(FILLED, counts=[]),
    'RLE with an empty text': dict(FILLED, counts=''),
    'RLE with a number': dict(FILLED, counts=3),
    'RLE with texts': dict(FILLED, counts=[str(number) for number in FILLED['counts']]),
    'RLE with floats': dict(FILLED, counts=[float(number) for number in FILLED['counts']]),
    'RLE with a fraction': dict(FILLED, counts=[0.5, 0.5, *FILLED['counts'][1:]]),
    'RLE with a negative run': dict(
        FILLED, counts=[FILLED['counts'][0] + 9, -9, *FILLED['counts'][1:], 0][:-1]
    ),
    'RLE without size': dict(counts=FILLED['counts']),
    'RLE with one side': dict(FILLED, size=[HEIGHT]),
    'RLE with three sides': dict(FILLED, size=[HEIGHT, WIDTH, 1]),
    'RLE with float sides': dict(FILLED, size=[float(HEIGHT), float(WIDTH)]),
    'RLE with texts as sides': dict(FILLED, size=[str(HEIGHT), str(WIDTH)]),
    'RLE with null as size': dict(FILLED, size=None),
    'RLE with swapped sides': dict(FILLED, size=[WIDTH, HEIGHT]),
    'RLE of another size': dict(size=[9, 9], counts=[40, 41]),
    'RLE of nothing': dict(FILLED, counts=[HEIGHT * WIDTH]),
    'compressed RLE that does not fill': dict(PACKED, counts=PACKED['counts'][:-2]),
    'compressed RLE that overflows': dict(PACKED, counts=PACKED['counts'] + '55'),
    'compressed RLE with other signs': dict(PACKED, counts='~~~ mask ~~~'),
    'compressed RLE with letters beyond ASCII': dict(PACKED, counts='äöü'),
    'compressed RLE cut within a number': dict(PACKED, counts=PACKED['counts'][:1]),
    'compressed RLE with swapped sides': dict(PACKED, size=[WIDTH, HEIGHT]),
    'compressed RLE of another size': compressed(8, 6, 20, 16) | dict(size=[9, 9]),
    'compressed RLE in a list': [PACKED],
    'compressed RLE of nothing': compressed(70, 6, 20, 16),
}

OTHERS: dict[str, Mutate] = {
    'nothing': lambda content: None,
    'an object doubled': _double('annotations', id=77),
    'an object doubled with its id': _double('annotations'),
    'an object doubled as a crowd': _double('annotations', id=77, iscrowd=1),
    'an object doubled with another class': _double('annotations', id=77, category_id=2),
    'an object doubled with a box of floats': _double('annotations', id=77, bbox=[8.0, 6, 20, 16]),
    'an object doubled in another image': _double('annotations', id=77, image_id=3),
    'a crowd doubled': lambda content: content['annotations'].append(
        dict(content['annotations'][-1], id=77)
    ),
    'an image doubled': _double('images', id=77),
    'an image doubled with its id': _double('images'),
    'a category doubled': _double('categories', id=77),
    'a category doubled with its id': _double('categories'),
    'a category without objects': _double('categories', id=77, name='star'),
    'an image without objects': lambda content: content['annotations'].pop(0),
    'an annotation with the id 0': _with('annotations', 0, id=0),
    'categories reversed': _reverse('categories'),
    'images reversed': _reverse('images'),
    'annotations reversed': _reverse('annotations'),
    'a crowd without a mask': _with('annotations', -1, segmentation=[]),
    'a crowd with a polygon': _with('annotations', -1, segmentation=[SQUARE]),
    'a crowd with an RLE that does not fill': _with(
        'annotations', -1, segmentation=dict(FILLED, counts=[3, 4])
    ),
    'sides swapped': _with('images', 0, width=HEIGHT, height=WIDTH),
    'unknown keys': lambda content: content.update(videos=[1], version=None),
}  # fmt: skip
