"""Write a complete fine-tuning config for a dataset in COCO format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dsnet_mm.data.converting.coco_reader import check_images, find_images, read_coco_content
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError, counted
from dsnet_mm.files import as_folder, common_folder, path_within, written_whole

from .config import load_config

HEADER = """\
# Fine-tunes a detector on {classes}. `dsnet-mm new-config` wrote this file.
# All settings that are not here come from the config below.
_base_ = {base!r}

data_root = {data_root!r}
classes = {names!r}
weights = {weights!r}  # of a backbone or a whole detector

train_set = dict(ann_file={train[0]!r}, data_prefix=dict(img={train[1]!r}))
val_set = dict(ann_file={val[0]!r}, data_prefix=dict(img={val[1]!r}))

metainfo = dict(classes=classes)
model = {model}
load_from = weights  # neck and head too, as far as their shapes fit

train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, **train_set))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={ann_file!r})
test_evaluator = val_evaluator
"""


@dataclass(frozen=True)
class Split:
    """Hold an annotation file and the folder to which its file names are relative."""

    ann_file: Path
    images: Path
    classes: tuple[str, ...]
    masks: int  # objects with a mask
    objects: int


def find_files(paths: Sequence[str]) -> tuple[Path, Path]:
    """Return the annotation files for training and validation, in a folder or one after the other.

    Raises:
        UserError: If one is missing.
    """
    files = [Path(path) for path in paths]
    if len(files) == 1 and files[0].is_dir():
        files = [files[0] / 'train.json', files[0] / 'val.json']
    if len(files) != 2:
        raise UserError(
            f'{" ".join(paths)} is not a training and a validation file; pass both, or divide one '
            'with `dsnet-mm convert-data coco FILE DST --val 0.2`'
        )
    for file in files:
        if not file.is_file():
            raise UserError(
                f'{file} does not exist; pass the annotation files for training and validation, or '
                'draw a validation split with --val 0.2 of `dsnet-mm convert-data`'
            )
    return files[0], files[1]


def read_split(ann_file: Path, images: str | None) -> Split:
    """Read an annotation file and find its images.

    Args:
        ann_file: The annotation file.
        images: Folder to which file names are relative; None to search near ``ann_file``.

    Raises:
        UserError: If the file is not in COCO format, or its images are not found.
    """
    content = read_coco_content(ann_file)
    folder = Path(images) if images else find_images(ann_file, content['images'])
    if folder is None:
        raise UserError(
            f'no folder near {ann_file} holds all of its images, such as '
            f'{content["images"][0]["file_name"]}; pass their folder as --images DIR'
        )
    check_images(ann_file, folder, content['images'])
    annotations = content['annotations']
    return Split(
        ann_file.absolute(),
        folder.absolute(),
        tuple(category['name'] for category in content['categories']),
        sum(_has_mask(annotation.get('segmentation')) for annotation in annotations),
        len(annotations),
    )


def _has_mask(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) or (isinstance(segmentation, list) and any(segmentation))


def find_base(name: str) -> Path:
    """Return a config of configs/finetune by its name, or a config by its path.

    Raises:
        UserError: If there is no such config.
    """
    path = Path(name)
    if path.suffix == '.py' and path.is_file():
        return path.absolute()
    folder = configs_dir() / 'finetune'
    installed = folder / f'{name.removesuffix(".py")}.py'
    if not installed.is_file():
        names = ', '.join(sorted(file.stem for file in folder.glob('*.py')))
        raise UserError(f'{name} is not a base; choose {names}, or the path of a config (.py)')
    return installed


def write_config(out: Path, base: Path, train: Split, val: Split, weights: str | None) -> str:
    """Write a config that fine-tunes ``base``; return the address of its initial weights.

    Raises:
        UserError: If the files do not fit together, or the config cannot be written.
    """
    if train.classes != val.classes:
        raise UserError(
            f'{train.ann_file} and {val.ann_file} have different categories '
            f'({_first(train.classes, val.classes)}); write both with one run of '
            '`dsnet-mm convert-data`'
        )
    cfg = load_config(str(base))
    if 'mask_head' in str(cfg.model):
        for split in (train, val):
            if not split.masks:
                raise UserError(
                    f'{split.ann_file} has no masks, but {base.stem} trains masks; choose another '
                    '--base, such as retinanet_dsnet_s_finetune'
                )
    root = Path(common_folder([train.images, val.images]))
    places = {
        name: (path_within(root, split.ann_file), _prefix(root, split.images))
        for name, split in (('train', train), ('val', val))
    }
    weights = weights or cfg.load_from
    model = _num_classes(cfg.model)
    model['backbone'] = dict(init_cfg=dict(checkpoint=_Code('weights')))
    text = HEADER.format(
        classes=counted(len(train.classes), 'class', 'classes'),
        base=str(base),
        data_root=as_folder(root),
        names=train.classes,
        weights=weights,
        model=_code(model),
        ann_file=str(val.ann_file),
        **places,
    )
    with written_whole(out) as draft:
        draft.write_text(text, encoding='utf-8')
    return str(weights)


def _first(one: Sequence[str], two: Sequence[str]) -> str:
    """Return the first difference of two lists of classes."""
    pairs = zip([*one, 'none'], [*two, 'none'], strict=False)
    place, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return f'category {place} is {a} and {b}'


def _prefix(root: Path, images: Path) -> str:
    return '' if images == root else as_folder(images.relative_to(root))


class _Code(str):
    """Mark text that is code instead of a value."""

    def __repr__(self) -> str:
        return str(self)


def _num_classes(settings: Config) -> dict[str, Any]:
    """Return the settings of a model that hold its number of classes, as `len(classes)`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key == 'num_classes':
            found[key] = _Code('len(classes)')
        elif isinstance(value, dict) and (inner := _num_classes(value)):
            found[key] = inner
        elif key == 'num_things_classes' or (
            isinstance(value, list) and 'num_classes' in str(value)
        ):
            raise UserError(
                f'the base has its number of classes in {key}, which `dsnet-mm new-config` does '
                'not support; choose a config of configs/finetune as --base'
            )
    return found


def _code(settings: dict[str, Any]) -> str:
    """Return nested settings as code with dict()."""
    inner = (f'{k}={_code(v) if isinstance(v, dict) else repr(v)}' for k, v in settings.items())
    return f'dict({", ".join(inner)})'
