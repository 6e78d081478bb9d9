"""Divide an annotation file in COCO format into one for training and one for validation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dsnet_mm.errors import UserError, counted

from .coco_reader import check_images, read_coco_content
from .coco_writer import write_all
from .division import check_share, check_target, divide
from .summary import Conversion, Written, class_remarks


def divide_coco(
    source: str,
    target: str,
    images: str | None = None,
    val: float = 0.2,
    seed: int = 0,
    force: bool = False,
) -> Conversion:
    """Write train.json and val.json with the images of an annotation file.

    Ids, categories and all other fields remain as they are.

    Args:
        source: The annotation file.
        target: Folder of the new files, created if missing.
        images: Folder to which file names are relative; None for the folder of ``source``.
        val: Share of the images for validation.
        seed: Draws another validation split.
        force: Whether to overwrite annotation files in ``target``.

    Raises:
        UserError: If the file or its images are missing or faulty; then nothing is written.
    """
    check_share(val)
    if not Path(source).is_file():
        raise UserError(f'{source} is not a file; pass an annotation file in COCO format (.json)')
    if not val:
        raise UserError(f'{source} is in COCO format already; pass --val SHARE to divide the file')
    path, folder = Path(source), Path(images) if images else Path(source).parent
    content = read_coco_content(path)
    remarks = check_images(path, folder, content['images'])
    files = {split: Path(target) / f'{split}.json' for split in ('train', 'val')}
    if clash := [file for file in files.values() if file.exists() and file.samefile(path)]:
        raise UserError(f'{clash[0]} is the file to divide; choose another folder')
    check_target(Path(target), files.values(), force)
    chosen = divide([image['file_name'] for image in content['images']], val, seed)
    names = {category['id']: category['name'] for category in content['categories']}
    known = {image['id'] for image in content['images']}
    if stray := [a for a in content['annotations'] if a['image_id'] not in known]:
        remarks.append(
            f'left out {counted(len(stray), "annotation")} whose image is not in {path}, such as '
            f'the one with the id {stray[0].get("id")}'
        )
    contents, written = {}, []
    for split, file in files.items():
        kept = [i for i in content['images'] if (i['file_name'] in chosen) == (split == 'val')]
        ids = {image['id'] for image in kept}
        items = [a for a in content['annotations'] if a['image_id'] in ids]
        contents[file] = {**content, 'images': kept, 'annotations': items}
        filled = {item['image_id'] for item in items}
        by_class = Counter(names.get(item.get('category_id'), '?') for item in items)
        crowds = sum(bool(item.get('iscrowd')) for item in items)
        written.append(Written(file, len(kept), len(ids - filled), len(items), crowds, by_class))
    classes = tuple(names.values())
    if unknown := sum(file.by_class['?'] for file in written if '?' not in classes):
        remarks.append(
            f'{counted(unknown, "annotation has", "annotations have")} no known category'
        )
    write_all(contents)
    remarks += class_remarks(classes, written)
    return Conversion(str(folder), classes, tuple(written), tuple(remarks))
