"""Check the image files of an annotation file."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dsnet_mm.data.image_files import SUFFIXES, ImageFile, Progress, State, open_images
from dsnet_mm.errors import UserError

from .coco_file import CocoFile
from .finding import Finding, finding


def check_files(
    coco: CocoFile, folder: str, decode: bool = False, progress: Progress | None = None
) -> list[Finding]:
    """Open and check every image file.

    Args:
        coco: The annotation file.
        folder: The folder to which the file names are relative.
        decode: Whether to decode each file as mmdet does instead of reading only its header.
        progress: Wraps the opened files to show the progress.

    Raises:
        UserError: If ``folder`` is not a folder.
    """
    if not osp.isdir(folder):
        raise UserError(
            f'{folder} is not a folder; pass the folder to which the file names in {coco.path} are '
            'relative'
        )
    places = [place for place, name in enumerate(coco.images.names) if name is not None]
    paths = [osp.join(folder, coco.images.names[place]) for place in places]
    opened = dict(zip(places, open_images(paths, decode, progress), strict=True))
    missing = [place for place, file in opened.items() if file.state is State.MISSING]
    broken = [place for place, file in opened.items() if file.state is State.BROKEN]
    other_size = [
        place
        for place, file in opened.items()
        if file.state is State.FINE
        and np.isfinite(coco.images.sizes[place]).all()
        and tuple(coco.images.sizes[place]) != file.size
    ]
    turned = [place for place, file in opened.items() if file.orientation != 1]
    turned = sorted(set(turned) - set(other_size))
    unnamed = list(_unnamed_files(paths))

    def sizes(place: int) -> str:
        said = 'x'.join(f'{side:g}' for side in coco.images.sizes[place])
        found = 'x'.join(map(str, opened[place].size))
        return f'{coco.images.names[place]} ({found} instead of {said})'

    return [
        finding(
            'missing image files',
            missing,
            coco.image_name,
            f'mmdet crashes on them; copy them to {folder} or pass another folder'
            + _missing_hint(coco, folder, missing, len(places)),
        ),
        finding(
            'unreadable or truncated image files',
            broken,
            lambda place: f'{coco.images.names[place]} ({opened[place].reason})',
            'mmdet crashes on them or trains on half an image; download or save them again',
        ),
        finding(
            'image files whose size differs from the annotation file',
            other_size,
            sizes,
            "the boxes do not fit these images; correct 'width' and 'height', and check whether "
            'the boxes belong to this image size' + _turn_hint(coco, opened, other_size),
            images=other_size,
        ),
        finding(
            'image files that EXIF rotates or mirrors',
            turned,
            lambda place: f'{coco.images.names[place]} (orientation {opened[place].orientation})',
            'mmdet rotates them when it reads them; draw them with --draw and check whether the '
            'boxes fit the rotated image',
            is_problem=False,
            images=turned,
        ),
        Finding(
            'image files in the same folders that are missing in the annotation file',
            len(unnamed),
            tuple(unnamed[:3]),
            'mmdet does not use them',
            is_problem=False,
        ),
    ]


def _unnamed_files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the image files in the folders of ``paths`` that are not in ``paths``."""
    names: dict[str, set[str]] = {}
    for path in paths:
        names.setdefault(osp.dirname(path), set()).add(osp.basename(path))
    for folder, named in sorted(names.items()):
        if osp.isdir(folder):
            yield from sorted(
                osp.join(folder, entry.name)
                for entry in os.scandir(folder)
                if entry.name.lower().endswith(SUFFIXES) and entry.name not in named
            )


def _missing_hint(coco: CocoFile, folder: str, missing: Sequence[int], total: int) -> str:
    """Return a hint where the missing files may be, or ''."""
    if not missing:
        return ''
    name = coco.images.names[missing[0]]
    path = Path(folder, name)
    if path.parent.is_dir():
        for entry in path.parent.iterdir():
            if entry.name.lower() == path.name.lower():
                return f'; {entry} differs only in case'
    if '\\' in name:
        return "; use / instead of \\ in 'file_name'"
    if len(missing) < total:
        return ''
    above = next((up for up in Path(folder).resolve().parents if (up / name).is_file()), None)
    if above:
        return f'; {above} contains them'
    if Path(folder, path.name).is_file():
        return f"; they are in this folder without the folders of 'file_name', as {path.name!r}"
    below = next((d for d in Path(folder).iterdir() if (d / name).is_file()), None)
    return f'; {below} contains them' if below else ''


def _turn_hint(coco: CocoFile, opened: dict[int, ImageFile], other_size: Sequence[int]) -> str:
    exchanged = sum(
        opened[place].size == tuple(coco.images.sizes[place][::-1]) for place in other_size
    )
    if not exchanged:
        return ''
    return (
        f'; in {exchanged} of them width and height are swapped: mmdet applies the EXIF '
        'orientation, and the annotation file must give the size after this rotation'
    )
