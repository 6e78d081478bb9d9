"""Read annotation files in COCO format, and find their images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsnet_mm.data.text_files import read_text
from dsnet_mm.errors import UserError, counted

from .dataset import such_as


def read_coco_content(path: Path) -> dict[str, Any]:
    """Return the content of an annotation file with valid ids and names.

    Raises:
        UserError: If the file cannot be read, or ids or names are missing or repeated.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is not valid JSON ({error}); pass a complete file') from error
    needed = {
        'images': ('id', 'file_name'),
        'annotations': ('image_id',),
        'categories': ('id', 'name'),
    }
    for key, fields in needed.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(
                f"{path} has no list '{key}' of objects; pass an annotation file in COCO format"
            )
        for place, entry in enumerate(entries):
            if gap := [field for field in fields if type(entry.get(field)) not in (int, str)]:
                raise UserError(
                    f"entry {place} of '{key}' in {path} has no valid '{gap[0]}'; correct the file"
                )
        ids = [entry['id'] for entry in entries] if 'id' in fields else []
        if doubled := [number for number, times in Counter(ids).items() if times > 1]:
            raise UserError(
                f"the id {doubled[0]} occurs several times in '{key}' of {path}, so it is unknown "
                'what belongs to it; correct the file'
            )
    names = [entry['name'] for entry in content['categories']]
    if doubled_names := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(
            f'{path} has several categories with the name {doubled_names[0]!r}; rename one of them'
        )
    return content


def check_images(path: Path, folder: Path, images: list[dict[str, Any]]) -> list[str]:
    """Return a remark on missing image files.

    Raises:
        UserError: If all are missing.
    """
    names = [image['file_name'] for image in images]
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return []
    if len(missing) < len(names):
        return [
            f'{counted(len(missing), "image is", "images are")} missing in {folder}'
            f'{such_as(missing)}'
        ]
    found = find_images(path, images)
    raise UserError(
        f'{folder} holds none of the images of {path}{such_as(names)}; pass --images '
        f'{found or "DIR"}'
    )


def find_images(path: Path, images: Sequence[dict[str, Any]]) -> Path | None:
    """Return the folder near an annotation file that holds all of its images, or None.

    The folder is that of the file, one of the next three above, or a subfolder of those.
    """
    names = [image['file_name'] for image in images]
    above = [path.absolute().parent, *path.absolute().parent.parents][:4]
    for place in above:
        below = sorted(entry for entry in place.iterdir() if entry.is_dir())
        for folder in (place, *below):
            if all((folder / name).is_file() for name in names):
                return folder
    return None
