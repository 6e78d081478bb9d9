"""Check the image files of an annotation file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from dsnet_mm.data.file_finder import IMAGES, files_below
from dsnet_mm.data.image_files import ImageFile, Progress, State, open_images
from dsnet_mm.errors import UserError

from .coco_file import CocoFile
from .finding import Finding, finding


def check_files(
    coco: CocoFile, folder: str, decode: bool = False, progress: Progress | None = None
) -> list[Finding]:
    """Open and check every image file below ``folder``; decode it if ``decode`` is true.

    Raises:
        UserError: If ``folder`` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(
            f'{folder} is not a folder; pass the folder to which the file names in {coco.path} are '
            'relative'
        )
    names = {place: name for place, name in enumerate(coco.images.names) if name}
    paths = {place: root / name for place, name in names.items()}
    opened = open_images([str(path) for path in paths.values()], decode, progress)
    files: dict[int, ImageFile] = dict(zip(paths, opened, strict=True))
    missing = [place for place, file in files.items() if file.state is State.MISSING]
    broken = [place for place, file in files.items() if file.state is State.BROKEN]
    other_size = [
        place
        for place, file in files.items()
        if file.state is State.FINE
        and np.isfinite(coco.images.sizes[place]).all()
        and tuple(np.floor(coco.images.sizes[place])) != file.size
    ]
    rotated = [place for place, file in files.items() if file.orientation != 1]
    rotated = [place for place in rotated if place not in set(other_size)]
    swapped = sum(
        files[place].size == tuple(coco.images.sizes[place][::-1]) for place in other_size
    )
    swapped_hint = (
        f'; in {swapped} of them width and height are swapped: mmdet applies the EXIF '
        'orientation, and the annotation file must give the size after this rotation'
    )

    def sizes(place: int) -> str:
        said = 'x'.join(f'{side:g}' for side in coco.images.sizes[place])
        found = 'x'.join(map(str, files[place].size))
        return f'{names[place]} ({found} instead of {said})'

    return [
        finding(
            'missing image files',
            missing,
            f'mmdet crashes on them; copy them to {folder} or pass another folder'
            + (_missing_hint(root, names[missing[0]], missing == list(names)) if missing else ''),
            names.__getitem__,
        ),
        finding(
            'unreadable or truncated image files',
            broken,
            'mmdet crashes on them or trains on half an image; download or save them again',
            lambda place: f'{names[place]} ({files[place].reason})',
        ),
        finding(
            'image files whose size differs from the annotation file',
            other_size,
            "the boxes do not fit these images; correct 'width' and 'height', and check whether "
            'the boxes belong to this image size' + (swapped_hint if swapped else ''),
            sizes,
            images=other_size,
        ),
        finding(
            'image files with 16 bits per channel that are nearly black in 8 bits',
            [place for place, file in files.items() if file.dark],
            'mmdet keeps the upper 8 bits of each channel, so a detector sees almost nothing; '
            'stretch the brightness and save them with 8 bits',
            names.__getitem__,
        ),
        finding(
            'image files with more than 8 bits per channel',
            [place for place, file in files.items() if file.deep and not file.dark],
            'mmdet keeps the upper 8 bits of each channel',
            names.__getitem__,
            is_problem=False,
        ),
        finding(
            'image files with several pictures',
            [place for place, file in files.items() if file.animated],
            'mmdet reads the first picture of each file',
            names.__getitem__,
            is_problem=False,
        ),
        finding(
            'image files that EXIF rotates or mirrors',
            rotated,
            'mmdet rotates them when it reads them; draw them with --draw and check whether the '
            'boxes fit the rotated image',
            lambda place: f'{names[place]} (orientation {files[place].orientation})',
            is_problem=False,
            images=rotated,
        ),
        finding(
            'image files in the same folders that are missing in the annotation file',
            _unnamed_files(paths.values()),
            'mmdet does not use them',
            str,
            is_problem=False,
        ),
    ]


def _unnamed_files(paths: Collection[Path]) -> list[Path]:
    """Return the image files in the folders of ``paths`` that are not in ``paths``."""
    named = set(paths)
    folders = sorted({path.parent for path in paths})
    found = (path for folder in folders for path in files_below(folder, IMAGES, deep=False))
    return [path for path in found if path not in named]


def _missing_hint(root: Path, name: str, all_missing: bool) -> str:
    """Return a hint where a missing file may be, or ''."""
    path = root / name
    if path.parent.is_dir():
        for entry in path.parent.iterdir():
            if entry.name.lower() == path.name.lower():
                return f'; {entry} differs only in case'
    if '\\' in name:
        return "; use / instead of \\ in 'file_name'"
    if not all_missing:
        return ''
    above = next((place for place in root.resolve().parents if (place / name).is_file()), None)
    if not above and (root / path.name).is_file():
        return f"; they are in this folder without the folders of 'file_name', as {path.name!r}"
    found = above or next((place for place in root.iterdir() if (place / name).is_file()), None)
    return f'; {found} contains them' if found else ''
