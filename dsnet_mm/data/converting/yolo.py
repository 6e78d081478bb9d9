"""Read datasets with a text file per image, as in YOLO and Darknet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from dsnet_mm.data.image_files import images_below
from dsnet_mm.errors import UserError, counted

from .sample import Found, Item, LabelError, Labels, Pair, replace_folder, split_of

_NAME_FILES = ('classes.txt', 'obj.names', 'labels.txt', '_darknet.labels')
_IMAGE_FOLDERS = ('images', 'jpegimages', 'image', 'img')
_LISTS = ('train.txt', 'val.txt', 'test.txt', 'README.txt')
_SPLIT_KEYS = ('train', 'val', 'test')
_OVER = 0.01  # share of the image by which a coordinate may exceed the edge; it is clipped there


def find(root: Path) -> Found:
    """Find the images, text files and class names of a dataset.

    Splits and names come from ``data.yaml``. Without this file, the splits come from the names of
    folders, and the class names from ``classes.txt`` or ``obj.names``.

    Raises:
        UserError: If there is no image or no text file, or ``data.yaml`` is broken.
    """
    file = _find_settings(root)
    settings = _read_yaml(file) if file else {}
    found = Found(classes=_yaml_names(file, settings) or _listed_names(root))
    found.keypoints = _keypoints(file, settings)
    for split in _SPLIT_KEYS:
        for image in _yaml_images(root, file, settings, split):
            found.add(split, _pair(image))
    if not found.splits:
        for image in images_below(root):
            found.add(split_of(image.relative_to(root)), _pair(image))
    pairs = found.pairs()
    if not any(pair.label for pair in pairs):
        raise UserError(
            f'{root} contains {counted(len(pairs), "image")} but no text file for them; pass the '
            "folder of a YOLO dataset, with text files next to the images or in 'labels' next to "
            "'images'"
        )
    return found


def read_all(
    found: Found, sizes: dict[Path, tuple[int, int]], classes: Sequence[str] | None
) -> Labels:
    """Read the text files of the images in ``sizes``.

    Args:
        found: The files of the dataset.
        sizes: Widths and heights in pixels of the readable images.
        classes: The classes by number; if None, those that the dataset lists.

    Raises:
        UserError: If the class names are unknown.
    """
    names = tuple(classes or found.classes or ())
    if not names:
        raise UserError(
            'the dataset does not list its classes; add a data.yaml or classes.txt to its folder '
            'or pass --classes NAME ...'
        )
    items, faults = {}, {}
    bare = 0
    for pair in found.pairs():
        if pair.image not in sizes:
            continue
        bare += pair.label is None
        try:
            items[pair.image] = (
                read(pair.label, sizes[pair.image], names, found.keypoints) if pair.label else []
            )
        except LabelError as error:
            faults[pair.label] = str(error)
    remarks = []
    if bare:
        remarks.append(f'treated {counted(bare, "image")} without a text file as without objects')
    cut = [image for image, objects in items.items() for item in objects if item.cut]
    if cut:
        remarks.append(
            f'clipped {counted(len(cut), "object")} at the edge of the image, such as one in '
            f'{cut[0]}'
        )
    orphans = list(_orphans(found))
    if orphans:
        remarks.append(
            f'ignored {counted(len(orphans), "text file")} without an image, such as {orphans[0]}'
        )
    return Labels(items, names, faults, tuple(remarks))


def read(
    label: Path, size: tuple[int, int], classes: Sequence[str], keypoints: int = 0
) -> list[Item]:
    """Read a text file whose lines are a class and a box, or a class and a polygon.

    Args:
        label: The file.
        size: Width and height of the image in pixels.
        classes: Class names by number.
        keypoints: Number of keypoint values that may follow a box; they are ignored.

    Raises:
        LabelError: If a line has another format.
    """
    try:
        lines = label.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError('it is not readable as UTF-8 text') from error
    items = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                items.append(_item(line.split(), size, classes, keypoints))
            except LabelError as error:
                raise LabelError(f'line {number}: {error}') from error
    return items


def _keypoints(file: Path | None, settings: dict[str, Any]) -> int:
    """Return the number of keypoint values per box, from ``kpt_shape``."""
    shape = settings.get('kpt_shape', [0])
    if not isinstance(shape, list) or not all(type(number) is int for number in shape):
        raise UserError(f'kpt_shape in {file} is {shape!r}; write [points, 2] or [points, 3]')
    return math.prod(shape)


def _item(words: list[str], size: tuple[int, int], classes: Sequence[str], keypoints: int) -> Item:
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
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
    if len(values) == 5:
        values = values[:4]  # a confidence follows
    if len(values) < 4 or len(values) % 2:
        raise LabelError(
            f'{counted(len(values), "number")} after the class are neither a box (4) nor a polygon '
            '(pairs)'
        )
    if min(values) < -_OVER or max(values) > 1 + _OVER:
        beyond = next(value for value in values if not -_OVER <= value <= 1 + _OVER)
        raise LabelError(f'{beyond:g} is not a fraction of the image between 0 and 1')
    if len(values) == 4:
        return _box_item(classes[int(label)], values, size)
    points = [
        round(min(max(value, 0.0), 1.0) * size[place % 2], 3) for place, value in enumerate(values)
    ]
    left, top, right, bottom = (edge(points[axis::2]) for edge in (min, max) for axis in (0, 1))
    return Item(
        classes[int(label)],
        (left, top, *_extent(right - left, bottom - top)),
        (tuple(points),),
        cut=any(_beyond(value, value, size[place % 2]) for place, value in enumerate(values)),
    )


def _box_item(name: str, values: Sequence[float], size: tuple[int, int]) -> Item:
    """Create an object from center, width and height of a box as fractions of the image."""
    edges, cut = [], False
    for middle, length, side in zip(values[:2], values[2:], size, strict=True):
        low, high = middle - length / 2, middle + length / 2
        cut = cut or _beyond(low, high, side)
        edges.append((round(max(0.0, low) * side, 3), round(min(1.0, high) * side, 3)))
    (left, right), (top, bottom) = edges
    return Item(name, (left, top, *_extent(right - left, bottom - top)), cut=cut)


def _beyond(low: float, high: float, side: int) -> bool:
    """Return whether fractions of a side exceed it by half a pixel, more than by rounding."""
    return low * side < -0.5 or (high - 1) * side > 0.5


def _extent(width: float, height: float) -> tuple[float, float]:
    if width <= 0 or height <= 0:
        raise LabelError('the object has no width or no height')
    return round(width, 3), round(height, 3)


def _pair(image: Path) -> Pair:
    """Return an image with its text file, in ``labels`` next to ``images`` or next to the image."""
    elsewhere = replace_folder(image, _IMAGE_FOLDERS, 'labels')
    for label in (elsewhere, image):
        if label and label.with_suffix('.txt').is_file():
            return Pair(image, label.with_suffix('.txt'))
    return Pair(image, None)


def _orphans(found: Found) -> Iterator[Path]:
    """Yield text files without an image in the folders of the label files."""
    labels = {pair.label for pair in found.pairs() if pair.label}
    for folder in sorted({label.parent for label in labels}):
        for path in sorted(folder.glob('*.txt')):
            if path not in labels and path.name not in (*_NAME_FILES, *_LISTS):
                yield path


def _find_settings(root: Path) -> Path | None:
    """Return the YAML file of a dataset, or None if it is missing."""
    files = [path for path in sorted(root.glob('*')) if path.suffix in ('.yaml', '.yml')]
    usual = [path for path in files if path.stem in ('data', 'dataset')]
    if len(files) > 1 and len(usual) != 1:
        raise UserError(
            f'{root} contains several YAML files ({", ".join(path.name for path in files)}); keep '
            'only the one that describes the dataset, as data.yaml'
        )
    return (usual or files or [None])[0]


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{file} is not valid YAML ({reason}); correct the file') from error
    if not isinstance(content, dict):
        raise UserError(f"{file} contains no keys; add at least 'names: [...]'")
    return content


def _yaml_names(file: Path | None, settings: dict[str, Any]) -> tuple[str, ...] | None:
    names = settings.get('names')
    if names is None:
        return None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(
            f"'names' in {file} is not valid; write a list of classes, or a mapping of numbers "
            'from 0 to classes'
        )
    return tuple(map(str, names))


def _yaml_images(
    root: Path, file: Path | None, settings: dict[str, Any], split: str
) -> dict[Path, None]:
    """Return the images of a split of the YAML file, in order, empty without this split."""
    value = settings.get(split, settings.get('valid') if split == 'val' else None)
    images: dict[Path, None] = {}
    for entry in [value] if isinstance(value, str) else value or []:
        place = _resolve(root, file, settings, str(entry))
        if place:
            images.update(dict.fromkeys(_images_at(place, root)))
        elif split != 'test':  # often listed but not shipped
            raise UserError(
                f"'{split}' in {file} is {str(entry)!r}, which does not exist; write the path "
                'relative to this file'
            )
    return images


def _resolve(root: Path, file: Path, settings: dict[str, Any], entry: str) -> Path | None:
    """Return the path of an entry, or None if it does not exist.

    The ``path`` of a dataset that was moved, and a wrong ``../`` of some exporters, do not exist;
    the folder of the dataset is tried last.
    """
    inside = Path(*(part for part in Path(entry).parts if part != '..'))
    base = file.parent / str(settings.get('path') or '')
    for place in (base / entry, file.parent / entry, root / inside):
        if place.exists():
            return place
    return None


def _images_at(place: Path, root: Path) -> Iterator[Path]:
    """Yield the images below a folder, or the images that a text file lists."""
    if place.is_dir():
        yield from images_below(place)
        return
    for line in place.read_text(encoding='utf-8', errors='replace').splitlines():
        if line.strip():
            path = Path(line.strip())
            # Darknet's lists are relative to its working directory, above the dataset
            places = [place.parent / path, root / path, root / Path(*path.parts[1:])]
            yield next(filter(Path.is_file, places), places[0])


def _listed_names(root: Path) -> tuple[str, ...] | None:
    """Return the classes in a file with one class per line, or None without such a file."""
    for path in sorted(root.rglob('*')):
        if path.name in _NAME_FILES or path.suffix == '.names':
            lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
            return tuple(line.strip() for line in lines if line.strip()) or None
    return None
