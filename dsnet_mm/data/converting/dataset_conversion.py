"""Convert a whole VOC or YOLO dataset to COCO format, or nothing."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsnet_mm.data.image_files import Progress, State, open_images
from dsnet_mm.errors import UserError, counted

from . import coco_writer, voc, yolo
from .coco_writer import Labeled
from .sample import ALL, Found, Labels

FORMATS = dict(voc=voc, yolo=yolo)
MOST_SHOWN = 20  # faults that are listed


@dataclass(frozen=True)
class Conversion:
    """Describe a finished conversion.

    Attributes:
        classes: The classes, in the order of all files.
        written: The written files.
        remarks: Assumptions and omissions, as sentences without a full stop.
    """

    classes: tuple[str, ...]
    written: tuple[coco_writer.Written, ...]
    remarks: tuple[str, ...]


def convert(
    kind: str,
    source: str,
    target: str,
    classes: Sequence[str] | None = None,
    val: float = 0.0,
    skip: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write an annotation file for each split of a dataset.

    The images stay in place; their file names are relative to ``source``. All files list the same
    categories in the same order, because mmdet numbers the classes by this order.

    Args:
        kind: One of :data:`FORMATS`.
        source: Folder of the dataset.
        target: Folder of the annotation files, created if missing.
        classes: Class names in order; None for the names in the dataset.
        val: Share of the images for validation, for a dataset without splits.
        skip: Whether to skip images with faulty files.
        force: Whether to overwrite annotation files in ``target``.
        progress: Wraps the opened images to show the progress.

    Raises:
        UserError: If anything is missing or faulty; then nothing is written.
    """
    root = Path(source)
    _check_options(root, classes, val)
    found = FORMATS[kind].find(root)
    _divide(root, found, val)
    files = {split: Path(target) / f'{split}.json' for split in found.splits}
    _check_target(Path(target), files.values(), force)
    sizes, faults = _open(found, progress)
    labels = FORMATS[kind].read_all(found, sizes, classes)
    faults.update(labels.faults)
    _check_labels(root, labels, faults, skip)
    contents = {}
    for split, pairs in found.splits.items():
        images = [
            Labeled(_relative(pair.image, root), sizes[pair.image], labels.items[pair.image])
            for pair in pairs
            if pair.image in labels.items
        ]
        contents[files[split]] = coco_writer.content(kind, images, labels.classes)
    coco_writer.write(contents)
    left_out = _shortened([f'skipped {path}: {why}' for path, why in faults.items()])
    written = tuple(coco_writer.count(path, content) for path, content in contents.items())
    return Conversion(labels.classes, written, (*labels.remarks, *left_out))


def _check_options(root: Path, classes: Sequence[str] | None, val: float) -> None:
    if not root.is_dir():
        raise UserError(f'{root} is not a folder; pass the folder of the dataset')
    if not 0 <= val < 1:
        raise UserError(f'--val is {val:g} but must be at least 0 and below 1, such as 0.2')
    if classes is not None and len(set(classes)) < len(classes):
        raise UserError('--classes repeats a class; pass each class once')


def _divide(root: Path, found: Found, val: float) -> None:
    """Move a deterministic share of the images to a validation split."""
    if not val:
        return
    if 'val' in found.splits:
        raise UserError(f'{root} already has a validation split; omit --val')
    split = ALL if ALL in found.splits else 'train'
    pairs = found.splits.pop(split, [])
    ranked = sorted(pairs, key=lambda pair: zlib.crc32(_relative(pair.image, root).encode()))
    number = max(1, round(val * len(pairs)))
    if number >= len(pairs):
        raise UserError(
            f'--val {val:g} leaves none of {counted(len(pairs), "image")} for training; pass a '
            'smaller share'
        )
    kept = {pair.image for pair in ranked[:number]}
    found.splits['train'] = [pair for pair in pairs if pair.image not in kept]
    found.splits['val'] = [pair for pair in pairs if pair.image in kept]


def _check_target(target: Path, files: Iterable[Path], force: bool) -> None:
    if target.suffix == '.json' or (target.exists() and not target.is_dir()):
        raise UserError(f'{target} is not a folder; pass a folder for the annotation files')
    existing = [file for file in files if file.exists()]
    if existing and not force:
        raise UserError(f'{existing[0]} already exists; choose another folder or pass --force')


def _open(
    found: Found, progress: Progress | None
) -> tuple[dict[Path, tuple[int, int]], dict[Path, str]]:
    """Return the sizes of the readable images, and the faults of the others."""
    sizes, faults = {}, {}
    pairs = found.pairs()
    opened = open_images([str(pair.image) for pair in pairs], progress=progress)
    for pair, image in zip(pairs, opened, strict=True):
        if image.state is State.FINE:
            sizes[pair.image] = image.size
        elif image.state is State.MISSING:
            faults[pair.label or pair.image] = f'its image {pair.image} is missing'
        else:
            reason = f'its image {pair.image} cannot be read ({image.reason})'
            faults[pair.label or pair.image] = reason
    return sizes, faults


def _check_labels(root: Path, labels: Labels, faults: dict[Path, str], skip: bool) -> None:
    if faults and not skip:
        sentences = [f'{path} cannot be converted: {reason}' for path, reason in faults.items()]
        raise UserError(
            f'{"; ".join(_shortened(sentences))}; correct these files, or pass --skip to skip them'
        )
    if not any(labels.items.values()):
        raise UserError(f'no label file in {root} contains an object; pass another folder')


def _shortened(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SHOWN
    return [*sentences[:MOST_SHOWN], f'and {rest} more'] if rest > 0 else sentences


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
