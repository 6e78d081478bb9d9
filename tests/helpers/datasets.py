"""Write datasets, good or bad, in the formats that the checks and the converter read."""

from __future__ import annotations

import copy
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from dsnet_mm.data.shapes import METAINFO

CLASSES = METAINFO['classes']
"""The names of the shapes: the order of their labels, and that of the alphabet."""


def files_below(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def read_json(path):
    return json.loads(Path(path).read_text())


def copy_of_shapes(shapes_root, tmp_path):
    """Return the faultless content of an annotation file of four images, and its folder."""
    folder = tmp_path / 'images'
    shutil.copytree(shapes_root / 'val2017', folder)
    content = json.loads((shapes_root / 'annotations/instances_val2017.json').read_text())
    return content, folder


def write_annotations(content, folder):
    path = folder.parent / 'ann.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def jpeg(path, orientation=None, size=(64, 48), form='JPEG'):
    """Write an image with an EXIF orientation."""
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size[::-1], 3)).save(
        path, form, exif=exif
    )


def dataset_config(classes=CLASSES, num_classes=4, pipeline=(), **dataset):
    metainfo = None if classes is None else dict(classes=classes)
    dataset = dict(type='CocoDataset', metainfo=metainfo, pipeline=list(pipeline), **dataset)
    return Config(
        dict(
            model=dict(bbox_head=dict(num_classes=num_classes)),
            train_dataloader=dict(dataset=dataset),
            val_dataloader=dict(dataset=copy.deepcopy(dataset)),
        ),
        filename=__file__,
    )


# ---- the formats of VOC and YOLO


def truth(shapes_root, split):
    """Return (class, box, polygons) of the objects of each image file of the shapes."""
    content = read_json(shapes_root / f'annotations/instances_{split}2017.json')
    objects = {image['id']: [] for image in content['images']}
    for item in content['annotations']:
        polygons = item['segmentation']
        objects[item['image_id']].append((CLASSES[item['category_id'] - 1], item['bbox'], polygons))
    folder = shapes_root / f'{split}2017'
    return {folder / image['file_name']: objects[image['id']] for image in content['images']}


def voc_xml(name, objects, size=(96, 96), origin=1):
    """Return VOC XML: pixels count from 1, and the last pixel belongs to the box."""
    root = ElementTree.Element('annotation')

    def add(parent, **texts):
        for tag, text in texts.items():
            ElementTree.SubElement(parent, tag).text = str(text)

    add(root, filename=name)
    add(ElementTree.SubElement(root, 'size'), width=size[0], height=size[1], depth=3)
    for number, (label, (left, top, width, height), _) in enumerate(objects):
        element = ElementTree.SubElement(root, 'object')
        add(element, name=label, difficult=int(number == 1))
        add(ElementTree.SubElement(element, 'bndbox'), xmin=left + origin, ymin=top + origin,
            xmax=left + width, ymax=top + height)  # fmt: skip
    return ElementTree.tostring(root, encoding='unicode')


def yolo_text(objects, polygons, size=96):
    """Return YOLO text: the class, then fractions of the image, in each line."""
    lines = []
    for label, (left, top, width, height), outlines in objects:
        numbers = (left + width / 2, top + height / 2, width, height)
        if polygons:
            numbers = outlines[0]
        fractions = ' '.join(f'{number / size:.6f}' for number in numbers)
        lines.append(f'{CLASSES.index(label)} {fractions}\n')
    return ''.join(lines)


def write_split(kind, root, shapes_root, image_folder, label_folder, split='train', **options):
    """Write a split of the shapes in another format; return the objects by file name."""
    (root / image_folder).mkdir(parents=True, exist_ok=True)
    (root / label_folder).mkdir(parents=True, exist_ok=True)
    for image, objects in truth(shapes_root, split).items():
        shutil.copy(image, root / image_folder)
        label = root / label_folder / image.stem
        if kind == 'voc':
            text = voc_xml(image.name, objects, **options)
            label.with_suffix('.xml').write_text(text)
        else:
            text = yolo_text(objects, options.get('polygons', False))
            label.with_suffix('.txt').write_text(text)
    prefix = f'{image_folder}/' if image_folder != '.' else ''
    return {f'{prefix}{image.name}': v for image, v in truth(shapes_root, split).items()}
