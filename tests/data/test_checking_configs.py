"""Test what check-data says about a dataset and the config that trains on it."""

from __future__ import annotations

import json

import cv2
import mmcv
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, Resize
from mmdet.models.task_modules import AnchorGenerator
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as mask_utils

from dsnet_mm.data.checking import sizes
from dsnet_mm.data.checking.annotation_checks import check_entries
from dsnet_mm.data.checking.check import check_set
from dsnet_mm.data.checking.coco_file import read_coco
from dsnet_mm.data.checking.config_checks import check_config, classes_of
from dsnet_mm.data.checking.runs import totals
from dsnet_mm.data.checking.small_classes import check_small_classes, smallest_anchor
from dsnet_mm.data.image_files import State, open_image
from dsnet_mm.engine.config import load_config
from helpers.annotation_mutations import faultless
from helpers.commands import dsnet_mm_ends
from helpers.datasets import CLASSES, dataset_config, write_annotations
from helpers.paths import ROOT, SHARED

MINI = ROOT / 'configs' / 'finetune' / 'retinanet_dsnet_mini_finetune.py'
MASKS = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


def found(findings):
    """Return the findings with faults by title."""
    return {finding.title: finding for finding in findings if finding.count}


# What is printed


def test_passed_checks_are_counted_or_listed(capsys, small_dataset):
    content, folder = small_dataset
    path = write_annotations(content, folder)
    assert dsnet_mm_ends('check-data', path, folder) == 0
    short = capsys.readouterr().out
    assert dsnet_mm_ends('check-data', path, folder, '--verbose') == 0
    listing = capsys.readouterr().out
    (line,) = [line for line in short.splitlines() if line.endswith('checks passed')]
    assert listing.count(' ok ') == int(line.split()[0]) > 20
    assert ' ok ' not in short
    assert short.count(' note ') == listing.count(' note ')
    assert 'objects per image' in short
    assert 'objects per image' in listing


# Masks that are absent


@pytest.mark.parametrize('mask', [[[]], [[], []], [], None, {}])
@pytest.mark.parametrize('with_mask', [None, False, True])
def test_absent_masks(small_dataset, mask, with_mask):
    content, folder = small_dataset
    for annotation in content['annotations']:
        annotation['segmentation'] = mask
    path = str(write_annotations(content, folder))
    cfg = None if with_mask is None else dataset_config(pipeline=MASKS if with_mask else ())
    report = check_set(path, str(folder), cfg)
    number = len(content['annotations'])
    assert found(report.findings)['objects without a mask'].count == number
    assert [finding.title for finding in report.problems] == (
        ['objects without the mask that the config needs'] if with_mask else []
    )


def test_faults_of_masks_are_notes_for_a_detector_of_boxes(small_dataset):
    content, folder = small_dataset
    masks = [
        [[1, 2]],
        'mask.png',
        dict(size=[96, 96], counts=[5]),
        dict(size=[9, 9], counts=[80, 1]),
    ]
    for annotation, mask in zip(content['annotations'], masks, strict=False):
        annotation['segmentation'] = mask
    path = str(write_annotations(content, folder))
    of_boxes = check_set(path, str(folder), dataset_config())
    assert not of_boxes.problems
    assert len(found(of_boxes.findings)) >= 4
    assert len(check_set(path, str(folder)).problems) == 4
    assert len(check_set(path, str(folder), dataset_config(pipeline=MASKS)).problems) == 4


def test_runs_of_packed_masks_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    texts, pixels = [], []
    for number in range(200):
        height, width = rng.integers(1, 90, 2)
        mask = np.zeros((height, width), dtype=np.uint8, order='F')
        if number % 2:
            mask[:] = rng.random((height, width)) < rng.random()
        else:
            mask[rng.integers(0, height) :, rng.integers(0, width) :] = 1
        texts.append(pack(mask))
        pixels.append(height * width)
    assert totals(texts).tolist() == pixels
    assert (totals([text[:-1] for text in texts]) != pixels).all()
    assert totals(['', 'ä', '~', 'P', '0', '5']).tolist() == [-1, -1, -1, -1, 0, 5]


def pack(mask):
    return mask_utils.encode(mask)['counts'].decode()


# Doubled objects and names


def test_doubled_objects_are_counted(small_dataset):
    content, folder = small_dataset
    first = content['annotations'][0]
    for number, changes in enumerate(
        [{}, {}, dict(iscrowd=1), dict(category_id=first['category_id'] % 4 + 1), dict(image_id=0)],
        start=100,
    ):
        content['annotations'].append({**first, 'id': number, **changes})
    coco = read_coco(str(write_annotations(content, folder)))
    doubled = found(check_entries(coco))['objects that repeat image, category and box of another '
                                         'object']  # fmt: skip
    assert doubled.count == 2
    assert doubled.examples[0].startswith('annotation 100 in ')


def test_names_that_look_misspelled(small_dataset):
    content, folder = small_dataset
    for number, name in enumerate(['circl', 'Square', 'size 1', 'size 2'], start=10):
        content['categories'].append(dict(id=number, name=name))
    notes = found(check_entries(read_coco(str(write_annotations(content, folder)))))
    similar = notes['categories whose names differ in one or two letters']
    assert similar.examples == ("'circle' and 'circl'",)
    assert not similar.is_problem
    assert notes['categories whose names differ only in case or spaces'].count == 1


@pytest.mark.parametrize(('few', 'many', 'rare'), [(9, 101, 1), (10, 101, 0), (9, 100, 0)])
def test_rare_classes(small_dataset, few, many, rare):
    content, folder = small_dataset
    first = content['annotations'][0]
    numbers = [few, many, many, many]
    content['annotations'] = [
        dict(first, id=100 * category + number, category_id=category, bbox=[number % 60, 1, 9, 9])
        for category, count in enumerate(numbers, start=1)
        for number in range(count)
    ]
    notes = found(check_entries(read_coco(str(write_annotations(content, folder)))))
    assert ('categories with fewer than 10 objects' in notes) == bool(rare)
    if rare:
        (example,) = notes['categories with fewer than 10 objects'].examples
        assert example == "'circle' with 9"


# Classes of which most objects are small


def test_classes_below_the_smallest_anchor(tmp_path):
    """Halve the images: things of 40 pixels become 20 pixels, below the anchor of 24 pixels."""
    content = faultless()
    for image in content['images']:
        image.update(width=512, height=512)
    sides = [40, 100, 90, 44, 60, 120]
    for annotation, side in zip(content['annotations'], sides, strict=True):
        annotation.update(bbox=[1, 1, side, side + 30], iscrowd=0)
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(content))
    cfg = load_config(str(MINI))
    notes = check_small_classes(read_coco(str(path)), cfg)
    assert smallest_anchor(cfg) == 24
    (small,) = [note for note in notes if 'smallest anchor' in note.title]
    assert small.examples == (
        "2 of 3 objects of 'circle' have a shorter side below 24 px after the resize to 256x256 "
        '(scale=(288, 288) brings the median object to 24 px)',
    )
    assert not small.is_problem
    assert not found(notes).get('classes whose median object is below 16 px')


@pytest.mark.parametrize('kind', ['AnchorGenerator', AnchorGenerator])
def test_the_smallest_anchor_is_mmdets(kind):
    ratios = [0.5, 1.0, 2.0]
    anchors = dict(type=kind, scales=[8, 5], ratios=ratios, strides=[4, 8])
    roi_head = dict(bbox_head=dict(num_classes=4))
    cfg = Config(dict(model=dict(rpn_head=dict(anchor_generator=anchors), roi_head=roi_head)))
    assert smallest_anchor(cfg) == 20
    assert smallest_anchor(Config(dict(model=dict(bbox_head=dict(type='FCOSHead'))))) == 0


@pytest.mark.shared
def test_small_classes_of_real_photographs():
    coco = read_coco(str(SHARED / 'coco_mini/annotations/instances_train2017.json'))
    cfg = load_config(str(MINI))
    notes = check_small_classes(coco, cfg)
    (small,) = [note for note in notes if 'smallest anchor' in note.title]
    assert small.count > 10
    place = coco.categories.names.index('sports ball')
    entries = coco.annotations
    mine = (entries.categories == place) & ~entries.crowds
    factor = 256 / coco.images.sizes[entries.images[mine]].max(1)
    shorter = entries.boxes[mine, 2:].min(1) * factor
    words = f"{(shorter < 24).sum()} of {mine.sum()} objects of 'sports ball' have a shorter side"
    assert np.median(shorter) < 24
    coco.annotations.categories[~mine] = -1  # only this class is left
    (small,) = [note for note in check_small_classes(coco, cfg) if 'smallest' in note.title]
    assert small.examples[0].startswith(words)


# Configs in mmengine's new style


def test_types_that_are_classes():
    scale = dict(type=Resize, scale=(320, 240), keep_ratio=True)
    cfg = dataset_config(None, 80, [dict(type=LoadAnnotations, with_mask=True), scale])
    cfg.train_dataloader.dataset.type = CocoDataset
    cfg.val_dataloader.dataset.type = CocoDataset
    assert sizes.find_resize(cfg) == sizes.Resize(((320, 240),), keep_ratio=True)
    assert classes_of(cfg.train_dataloader.dataset) == CocoDataset.METAINFO['classes']


LAZY = """
from mmdet.datasets import ClassBalancedDataset, CocoDataset, ConcatDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.detectors import RetinaNet
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmengine.dataset import RepeatDataset
from mmcv.transforms import LoadImageFromFile

default_scope = None
anchors = dict(type=AnchorGenerator, octave_base_scale=4, scales_per_octave=3, ratios=[1.0],
               strides=[8, 16])
model = dict(type=RetinaNet, bbox_head=dict(type=RetinaHead, num_classes={number},
                                            anchor_generator=anchors))
pipeline = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations, with_bbox=True),
            dict(type=Resize, scale=(64, 64), keep_ratio=True), dict(type=PackDetInputs)]
one = dict(type=CocoDataset, ann_file='ann.json', metainfo=dict(classes={classes}),
           pipeline=pipeline)
wrapped = dict(type=RepeatDataset, times=2, dataset=dict(
    type=ClassBalancedDataset, oversample_thr=0.1, dataset=dict(
        type=ConcatDataset, datasets=[one, one])))
train_dataloader = dict(dataset=wrapped)
val_dataloader = dict(dataset=one)
"""


@pytest.mark.parametrize(('number', 'classes'), [(4, CLASSES), (3, CLASSES), (4, CLASSES[::-1])])
def test_a_config_in_the_new_style(capsys, small_dataset, tmp_path, number, classes):
    content, folder = small_dataset
    path = write_annotations(content, folder)
    config = tmp_path / 'lazy.py'
    config.write_text(LAZY.format(number=number, classes=classes))
    code = dsnet_mm_ends('check-data', path, folder, '--config', config)
    output = capsys.readouterr().out
    assert (code == 0) == (number == 4 and classes == CLASSES)
    assert ('model.bbox_head.num_classes is 3' in output) == (number == 3)
    assert ('classes in a different order' in output) == (classes != CLASSES)
    assert 'resized to 64x64' in output
    assert 'smallest anchor (32 px)' in output


# Class lists


@pytest.mark.parametrize(
    ('data', 'same'),
    [
        ('\n'.join(CLASSES).encode(), True),
        ('\r\n'.join(CLASSES).encode(), True),
        ('\n'.join(CLASSES).encode('utf-8-sig'), False),
        ('\n'.join(CLASSES).encode('utf-16'), False),
        (' \n'.join(CLASSES).encode(), False),
        ('\n\n'.join(CLASSES).encode(), False),
    ],
)
def test_class_lists_of_other_editors(small_dataset, data, same):
    """The classes are read; where mmdet would read others, this is the only problem."""
    content, folder = small_dataset
    (folder / 'classes.txt').write_bytes(data)
    coco = read_coco(str(write_annotations(content, folder)))
    cfg = dataset_config(str(folder / 'classes.txt'))
    problems = [finding.title for finding in check_config(coco, cfg) if finding.fails]
    assert problems == ([] if same else ['class files that mmdet reads differently'])


# Images


def deep(values, form):
    return cv2.imencode(form, values.astype(np.uint16))[1].tobytes()


def test_images_of_other_kinds(tmp_path):
    """State what OpenCV makes of depths, palettes and animations."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    gray = colors[..., 0]
    plain, other = Image.fromarray(colors), Image.fromarray(255 - colors)
    path = tmp_path / 'picture'

    def stated(image, form='', **options):
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, form, **options)
        file = open_image(str(path))
        decoded = mmcv.imfrombytes(path.read_bytes(), flag='color', backend='cv2')
        assert (file.state is State.FINE) == (decoded is not None)
        if decoded is not None:
            assert file.size == decoded.shape[1::-1]
        return file

    for form in ('.png', '.tif'):
        for values in (gray, colors):
            values = values.astype(np.uint16)
            assert stated(deep(values * 16, form)).dark  # a camera of 12 bits
            bright = stated(deep(values * 257, form))
            assert bright.deep
            assert not bright.dark
    numbers = Image.fromarray(gray.astype(np.float32))
    assert stated(numbers, 'TIFF').state is State.BROKEN
    for form in ('GIF', 'PNG', 'WEBP', 'TIFF'):
        animated = dict(save_all=True, append_images=[other])
        assert stated(plain, form, **animated).animated
        assert not stated(plain, form).animated
    palette = plain.quantize(16)
    for image, form in [
        (palette, 'PNG'), (plain.convert('CMYK'), 'JPEG'), (plain.convert('CMYK'), 'TIFF'),
        (Image.fromarray(gray > 99), 'PNG'), (Image.fromarray(gray > 99), 'TIFF'),
        (plain.convert('RGBA'), 'PNG'), (plain.convert('LA'), 'PNG'), (plain, 'BMP'),
        (plain, 'JPEG2000'), (plain, 'PPM'), (plain, 'TGA'),
    ]:  # fmt: skip
        file = stated(image, form)
        assert (file.deep, file.dark, file.animated) == (False, False, False)
