"""Convert a whole VOC or YOLO dataset to COCO format, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dsnet_mm.data.image_files import ImageFile, Progress, State, open_images
from dsnet_mm.errors import UserError, counted

from .coco_writer import coco_content, write_all
from .dataset import ALL, Dataset, Item, LabeledImage, LabelError, Labels, Pair, such_as
from .division import check_share, check_target, divide
from .summary import Conversion, Written, class_remarks
from .voc import VocDataset
from .yolo import YoloDataset

FORMATS: dict[str, type[Dataset]] = dict(voc=VocDataset, yolo=YoloDataset)
MOST_SHOWN = 20  # faults that are listed


def convert(
    kind: str,
    source: str,
    target: str,
    classes: Sequence[str] | None = None,
    val: float = 0.0,
    seed: int = 0,
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
        seed: Draws another validation split.
        skip: Whether to leave out faulty objects, and images that cannot be used at all.
        force: Whether to overwrite annotation files in ``target``.
        progress: Wraps the opened images to show the progress.

    Raises:
        UserError: If anything is missing or faulty; then nothing is written.
    """
    root = Path(source)
    _check_options(root, classes, val)
    dataset = FORMATS[kind](root, classes)
    if val:
        _divide(dataset, val, seed)
    files = {split: Path(target) / f'{split}.json' for split in dataset.splits}
    check_target(Path(target), files.values(), force)
    images, faults = _read(dataset, progress)
    if faults.sentences and not skip:
        raise UserError(
            f'{"; ".join(_shortened(faults.sentences))}; correct these files, or pass --skip to '
            'leave out the faulty objects and the images that cannot be used'
        )
    doubled = _remove_doubled(images.values())
    if not any(image.items for image in images.values()):
        raise UserError(f'no label file in {root} contains an object; pass another folder')
    dataset.finish(images.values())
    contents, written = {}, []
    for split, path in files.items():
        kept = [images[pair.image] for pair in dataset.splits[split] if pair.image in images]
        description = f'converted from {kind.upper()} by dsnet-mm'
        contents[path] = coco_content(description, root, kept, dataset.classes)
        items = [item for image in kept for item in image.items]
        empty, crowds = sum(not image.items for image in kept), sum(item.crowd for item in items)
        by_class = Counter(item.name for item in items)
        written.append(Written(path, len(kept), empty, len(items), crowds, by_class))
    write_all(contents)
    remarks = (
        *dataset.remarks,
        *doubled,
        *class_remarks(dataset.classes, written),
        *faults.remarks(),
    )
    return Conversion(source, dataset.classes, tuple(written), remarks)


def _check_options(root: Path, classes: Sequence[str] | None, val: float) -> None:
    if not root.is_dir():
        raise UserError(f'{root} is not a folder; pass the folder of the dataset')
    check_share(val)
    if classes is not None and len(set(classes)) < len(classes):
        raise UserError('--classes repeats a class; pass each class once')


def _divide(dataset: Dataset, val: float, seed: int) -> None:
    """Move a share of the images to a validation split."""
    root, splits = dataset.root, dataset.splits
    if 'val' in splits:
        raise UserError(f'{root} already has a validation split; omit --val')
    if ALL in splits and len(splits) > 1:
        raise UserError(
            f'{root} has images in no split{such_as([p.image for p in splits[ALL]])}; move them to '
            'a split, or omit --val'
        )
    source = next((name for name in (ALL, 'train', 'trainval') if name in splits), ALL)
    pairs = splits.pop(source, [])
    chosen = divide([pair.name(root) for pair in pairs], val, seed)
    splits['train'] = [pair for pair in pairs if pair.name(root) not in chosen]
    splits['val'] = [pair for pair in pairs if pair.name(root) in chosen]


class _Faults:
    """Collect the faults of objects and of whole images."""

    def __init__(self) -> None:
        self._objects: dict[Path, list[str]] = {}
        self._images: dict[Path, str] = {}

    def add(self, path: Path, error: LabelError) -> None:
        """Add a label file, or an image without one, that cannot be used."""
        self._images[path] = str(error)

    def add_objects(self, path: Path, faults: list[str]) -> None:
        """Add the faulty objects of a label file."""
        self._objects[path] = faults

    @property
    def sentences(self) -> list[str]:
        """Return a sentence for each fault."""
        single = ((path, fault) for path, faults in self._objects.items() for fault in faults)
        pairs = (*self._images.items(), *single)
        return [f'{path} cannot be converted: {reason}' for path, reason in pairs]

    def remarks(self) -> list[str]:
        """Return how many objects and images are left out, and which."""
        remarks = []
        if self._images:
            remarks.append(
                f'left out {counted(len(self._images), "image")} with all objects, because of the '
                'files that follow'
            )
            remarks += _shortened([f'skipped {path}: {why}' for path, why in self._images.items()])
        if self._objects:
            number = sum(map(len, self._objects.values()))
            remarks.append(
                f'left out {counted(number, "faulty object")} of '
                f'{counted(len(self._objects), "image")}; the other objects of these images stay'
            )
            single = ((path, fault) for path, faults in self._objects.items() for fault in faults)
            remarks += _shortened([f'left out of {path}: {why}' for path, why in single])
        return remarks


def _read(dataset: Dataset, progress: Progress | None) -> tuple[dict[Path, LabeledImage], _Faults]:
    """Return the images that can be converted, and the faults."""
    images, faults = {}, _Faults()
    pairs = dataset.pairs()
    opened = open_images([str(pair.image) for pair in pairs], progress=progress)
    for pair, file in zip(pairs, opened, strict=True):
        try:
            labels = _read_pair(dataset, pair, file)
        except LabelError as error:
            faults.add(pair.label or pair.image, error)
            continue
        images[pair.image] = LabeledImage(pair, file.size, labels.items)
        if labels.faults and pair.label:
            faults.add_objects(pair.label, labels.faults)
    return images, faults


def _read_pair(dataset: Dataset, pair: Pair, file: ImageFile) -> Labels:
    if file.state is State.MISSING:
        raise LabelError(f'its image {pair.image} is missing')
    if file.state is State.BROKEN:
        raise LabelError(f'its image {pair.image} cannot be read ({file.reason})')
    if pair.conflict:
        raise LabelError(pair.conflict)
    return dataset.read(pair.label, pair.image, file.size) if pair.label else Labels([], [])


def _remove_doubled(images: Iterable[LabeledImage]) -> list[str]:
    """Keep one of several objects with the same class, box and outline; return remarks.

    A detector that finds such an object once would miss the others.
    """
    places: list[Path] = []
    number = 0
    for image in images:
        kept: dict[tuple, Item] = {}
        for item in image.items:
            key = (item.name, item.box, item.polygons)
            if key not in kept or kept[key].crowd:
                kept[key] = item
        if doubled := len(image.items) - len(kept):
            number += doubled
            places.append(image.pair.label or image.pair.image)
            image.items = list(kept.values())
    if not number:
        return []
    return [
        f'removed {counted(number, "doubled object")} with the same class and box from '
        f'{counted(len(places), "image")}, such as one in {places[0]}'
    ]


def _shortened(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SHOWN
    return [*sentences[:MOST_SHOWN], f'and {rest} more'] if rest > 0 else sentences
