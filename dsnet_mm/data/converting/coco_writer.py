"""Write annotation files in COCO format, all or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from dsnet_mm.files import written_whole

from .dataset import Item, LabeledImage


def coco_content(
    description: str, root: Path, images: Sequence[LabeledImage], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the content of an annotation file with file names relative to ``root``.

    Ids start at 1, because COCO's metric misreads 0.
    """
    objects = [(number, item) for number, image in enumerate(images, 1) for item in image.items]
    return dict(
        info=dict(description=description),
        licenses=[],
        images=[
            dict(
                id=number,
                file_name=image.pair.name(root),
                width=image.size[0],
                height=image.size[1],
            )
            for number, image in enumerate(images, 1)
        ],
        annotations=[
            dict(
                id=number,
                image_id=image_number,
                category_id=classes.index(item.name) + 1,
                iscrowd=int(item.crowd),
                bbox=list(item.box),
                area=_area(item),
                segmentation=[list(polygon) for polygon in item.polygons],
            )
            for number, (image_number, item) in enumerate(objects, 1)
        ],
        categories=[dict(id=number, name=name) for number, name in enumerate(classes, 1)],
    )


def _area(item: Item) -> float:
    """Return the area of the polygons, or of the box without polygons, in pixels."""
    area = 0.0
    for polygon in item.polygons:
        x, y = np.reshape(polygon, (-1, 2)).T
        area += abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return round(float(area), 3) or item.box[2] * item.box[3]


def write_all(contents: dict[Path, dict[str, Any]]) -> None:
    """Write all files; none appears before all are complete.

    Raises:
        UserError: If a file cannot be written.
    """
    with ExitStack() as drafts:
        for path, content in contents.items():
            draft = drafts.enter_context(written_whole(path))
            draft.write_text(json.dumps(content), encoding='utf-8')
