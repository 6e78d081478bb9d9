"""Checks of the image files that an annotation file names."""

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
    """Open every image file.

    Args:
        coco: The annotation file.
        folder: The folder to which its file names are relative.
        decode: Whether to decode the whole files as mmdet does, not only their headers.
        progress: Shows how far the work is.

    Raises:
        UserError: If the folder is none.
    """
    if not osp.isdir(folder):
        raise UserError(
            f'{folder} is no folder; give the one to which the file names in {coco.path} are '
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
        return f'{coco.images.names[place]} ({found}, said to be {said})'

    return [
        finding(
            'image files missing',
            missing,
            coco.image_name,
            f'mmdet stops there: put them into {folder} or give another folder'
            + _missing_hint(coco, folder, missing, len(places)),
        ),
        finding(
            'image files unreadable or cut off',
            broken,
            lambda place: f'{coco.images.names[place]} ({opened[place].reason})',
            'mmdet stops there or trains on half a picture: fetch or write them again',
        ),
        finding(
            'image files of another size than the file says',
            other_size,
            sizes,
            "their boxes do not fit: correct 'width' and 'height', and look whether the boxes are "
            'for this picture' + _turn_hint(coco, opened, other_size),
            images=other_size,
        ),
        finding(
            'image files that EXIF asks to turn or mirror',
            turned,
            lambda place: f'{coco.images.names[place]} (orientation {opened[place].orientation})',
            'mmdet does so when it reads them: draw them with --draw and look whether the boxes '
            'were made for the turned picture',
            is_problem=False,
            images=turned,
        ),
        Finding(
            'image files in the same folders that the file does not name',
            len(unnamed),
            tuple(unnamed[:3]),
            'they are not used',
            is_problem=False,
        ),
    ]


def _unnamed_files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the image files which lie beside those in ``paths`` and are not among them."""
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
    """Say where the files may be instead."""
    if not missing:
        return ''
    name = coco.images.names[missing[0]]
    path = Path(folder, name)
    if path.parent.is_dir():
        for entry in path.parent.iterdir():
            if entry.name.lower() == path.name.lower():
                return f'; {entry} differs in upper and lower case only'
    if '\\' in name:
        return "; write / instead of \\ in 'file_name'"
    if len(missing) < total:
        return ''
    above = next((up for up in Path(folder).resolve().parents if (up / name).is_file()), None)
    if above:
        return f'; {above} has them'
    if Path(folder, path.name).is_file():
        return f"; they lie there without the folders in 'file_name': write {path.name!r}"
    below = next((d for d in Path(folder).iterdir() if (d / name).is_file()), None)
    return f'; {below} has them' if below else ''


def _turn_hint(coco: CocoFile, opened: dict[int, ImageFile], other_size: Sequence[int]) -> str:
    exchanged = sum(
        opened[place].size == tuple(coco.images.sizes[place][::-1]) for place in other_size
    )
    if not exchanged:
        return ''
    return (
        f'; in {exchanged} of them width and height are exchanged: mmdet turns pictures as EXIF '
        'asks, so the file must say the size after the turn'
    )
