"""Write annotation files in COCO format, all or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsnet_mm.errors import UserError

from .sample import Item


@dataclass(frozen=True)
class Labeled:
    """Hold an image with its objects: file name, width and height in pixels, and objects."""

    name: str
    size: tuple[int, int]
    items: list[Item]


@dataclass(frozen=True)
class Written:
    """Summarize a written annotation file.

    Attributes:
        path: The file.
        images: Number of images.
        empty: Number of images without objects.
        objects: Number of objects, crowds included.
        crowds: Number of objects that training and evaluation ignore.
    """

    path: Path
    images: int
    empty: int
    objects: int
    crowds: int


def content(kind: str, images: Sequence[Labeled], names: Sequence[str]) -> dict[str, Any]:
    """Return the content of an annotation file; ids start at 1, since COCO's metric misreads 0."""
    annotations = [
        dict(
            image_id=number,
            category_id=names.index(item.name) + 1,
            iscrowd=int(item.crowd),
            bbox=list(item.box),
            area=_area(item),
            segmentation=[list(polygon) for polygon in item.polygons],
        )
        for number, image in enumerate(images, 1)
        for item in image.items
    ]
    return dict(
        info=dict(description=f'converted from {kind.upper()} by dsnet-mm'),
        licenses=[],
        images=[
            dict(id=number, file_name=image.name, width=image.size[0], height=image.size[1])
            for number, image in enumerate(images, 1)
        ],
        annotations=[
            dict(id=number, **annotation) for number, annotation in enumerate(annotations, 1)
        ],
        categories=[dict(id=number, name=name) for number, name in enumerate(names, 1)],
    )


def _area(item: Item) -> float:
    """Return the area of the polygons, or of the box without polygons, in pixels."""
    area = sum(abs(_signed_area(polygon)) for polygon in item.polygons)
    return round(area, 3) or item.box[2] * item.box[3]


def _signed_area(polygon: Sequence[float]) -> float:
    corners = list(_corners(polygon))
    following = corners[1:] + corners[:1]
    return (
        sum(
            x * next_y - next_x * y
            for (x, y), (next_x, next_y) in zip(corners, following, strict=True)
        )
        / 2
    )


def _corners(polygon: Sequence[float]) -> Iterator[tuple[float, float]]:
    return zip(polygon[::2], polygon[1::2], strict=True)


def write(contents: dict[Path, dict[str, Any]]) -> None:
    """Write all files; none appears before all are complete.

    Raises:
        UserError: If a file cannot be written.
    """
    drafts = {}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            drafts[path] = path.with_name(f'.{path.name}.partial')
            drafts[path].write_text(json.dumps(content), encoding='utf-8')
        for path, draft in drafts.items():
            draft.replace(path)
    except OSError as error:
        raise UserError(
            f'cannot write {error.filename or path} ({error.strerror}); choose another folder'
        ) from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def count(path: Path, content: dict[str, Any]) -> Written:
    """Count images, objects and crowds of an annotation file."""
    annotations = content['annotations']
    return Written(
        path,
        len(content['images']),
        len(content['images']) - len({annotation['image_id'] for annotation in annotations}),
        len(annotations),
        sum(annotation['iscrowd'] for annotation in annotations),
    )
