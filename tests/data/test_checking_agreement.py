"""Test that the data checks agree with mmdet, pycocotools and the image files."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dsnet_mm.data.checking.annotation_checks import check_entries
from dsnet_mm.data.checking.check import check_set
from dsnet_mm.data.checking.coco_file import read_coco
from dsnet_mm.data.checking.drawing import choose
from dsnet_mm.data.checking.finding import Finding
from dsnet_mm.data.checking.printing import class_table, sentences
from dsnet_mm.data.checking.sizes import Resize, find_resize, measure
from dsnet_mm.data.image_files import State, open_image
from dsnet_mm.data.shapes import ShapesDetection
from helpers.commands import dsnet_mm_ends
from helpers.datasets import CLASSES, dataset_config, jpeg, write_annotations
from helpers.paths import ROOT, SHARED


def coco_dataset(path, folder, classes=CLASSES, **options):
    return CocoDataset(
        ann_file=str(path), data_prefix=dict(img=str(folder)), metainfo=dict(classes=classes),
        pipeline=[], serialize_data=False, **options,
    )  # fmt: skip


def test_mmdet_numbers_classes_by_the_file(small_dataset):
    content, folder = small_dataset
    path = write_annotations(content, folder)
    assert coco_dataset(path, folder, CLASSES[::-1]).cat2label == {1: 0, 2: 1, 3: 2, 4: 3}
    # 'square' is missing: the star, the third of the config, gets the second number
    classes = ('circle', 'ring', 'star', 'triangle')
    assert coco_dataset(path, folder, classes).cat2label == {1: 0, 3: 1, 4: 2}


def test_mmdet_skips_the_reported_boxes(small_dataset):
    """Compare the random boxes reported as too small or outside with those that mmdet drops."""
    content, folder = small_dataset
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-60, 120, (400, 2)), rng.uniform(-1, 40, (400, 2))], 1)
    image = content['images'][0]['id']
    content['annotations'] = [
        dict(id=i, image_id=image, category_id=1, area=9, bbox=box)
        for i, box in enumerate(boxes.tolist(), 1)
    ]
    path = write_annotations(content, folder)
    found = {finding.title: finding.count for finding in check_entries(read_coco(str(path)))}
    reported = found['boxes narrower or lower than one pixel']
    reported += found['boxes outside their image']
    kept = sum(len(info['instances']) for info in coco_dataset(path, folder).data_list)
    assert 0 < reported == 400 - kept < 400


def test_mmdet_fails_on_an_object_without_a_mask(small_dataset):
    content, folder = small_dataset
    content['annotations'][0]['segmentation'] = []
    dataset = coco_dataset(write_annotations(content, folder), folder)
    info = dict(dataset.get_data_info(0), img_shape=(96, 96), ori_shape=(96, 96))
    with pytest.raises(KeyError, match='mask'):
        LoadAnnotations(with_bbox=True, with_mask=True).transform(info)


@pytest.mark.parametrize(('first_id', 'precision'), [(1, 1.0), (0, 0.0)])
def test_the_id_0_costs_precision(small_dataset, first_id, precision):
    """Show that a perfect detection counts as wrong if its annotation has the id 0."""
    content, _ = small_dataset
    annotation = dict(content['annotations'][0], id=first_id)
    truth = COCO()
    truth.dataset = dict(content, annotations=[annotation])
    truth.createIndex()
    keys = ('image_id', 'category_id', 'bbox')
    result = truth.loadRes([dict({key: annotation[key] for key in keys}, score=0.9)])
    metric = COCOeval(truth, result, 'bbox')
    metric.params.imgIds = [annotation['image_id']]
    metric.evaluate()
    metric.accumulate()
    found = metric.eval['precision'][0, :, annotation['category_id'] - 1, 0, 2]
    assert found.mean() == pytest.approx(precision, abs=1e-9)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
@pytest.mark.parametrize('decode', [False, True])
def test_sizes_are_those_that_mmdet_reads(tmp_path, form, orientation, decode):
    path = tmp_path / f'picture.{form.lower()}'
    jpeg(path, orientation, form=form)
    file = open_image(str(path), decode)
    height, width = mmcv.imfrombytes(path.read_bytes()).shape[:2]
    assert file.size == (width, height)
    if form == 'JPEG':
        assert file.size == ((48, 64) if orientation in (6, 8) else (64, 48))
        assert file.orientation == (orientation or 1)


# Image files


@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_ends_of_files(tmp_path, form):
    """Find truncated files without decoding, and accept bytes after the end marker."""
    path = tmp_path / 'picture'
    jpeg(path, form=form, size=(200, 100))
    whole = path.read_bytes()
    for content, state in [
        (whole, State.FINE),
        (whole + bytes(5), State.FINE),
        (whole + b'metadata of a phone' * 20, State.FINE),
        (whole[: len(whole) // 2], State.BROKEN),
        (whole[:-200], State.BROKEN),
        (whole[:20], State.BROKEN),
    ]:
        path.write_bytes(content)
        assert open_image(str(path)).state is state, (len(content), len(whole))


def test_an_image_too_large_for_pillow(tmp_path, monkeypatch):
    """Read an image with more pixels than Pillow's limit, as mmdet does."""
    jpeg(tmp_path / 'picture.jpg')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert open_image(str(tmp_path / 'picture.jpg')).size == (64, 48)


def test_only_decoding_shows_damage_inside(tmp_path):
    path = tmp_path / 'picture.bmp'
    jpeg(path, form='BMP')
    path.write_bytes(path.read_bytes()[:1000])
    assert open_image(str(path)).state is State.FINE
    assert open_image(str(path), decode=True).state is State.BROKEN


@pytest.mark.parametrize(
    ('move', 'hint'),
    [
        (lambda folder: folder / 'below', 'below contains them'),
        (lambda folder: folder.parent, '{parent} contains them'),
    ],
)
def test_where_missing_files_are(small_dataset, move, hint):
    content, folder = small_dataset
    target = move(folder)
    target.mkdir(exist_ok=True)
    for image in content['images']:
        (folder / image['file_name']).rename(target / image['file_name'])
    (line,) = _file_problems(content, folder)
    assert f'missing image files: {len(content["images"])}' in line
    assert hint.format(parent=folder.parent) in line


def test_missing_by_case_or_backslash(small_dataset):
    content, folder = small_dataset
    name = content['images'][0]['file_name']
    (folder / name).rename(folder / name.upper())
    (line,) = _file_problems(content, folder)
    assert f'{name.upper()} differs only in case' in line
    content['images'][0]['file_name'] = f'images\\{name}'
    (line,) = _file_problems(content, folder)
    assert 'use / instead of \\' in line


def _file_problems(content, folder):
    report = check_set(str(write_annotations(content, folder)), str(folder))
    return [line for line in sentences(report) if line.startswith('problem')]


def test_notes_do_not_fail(small_dataset):
    content, folder = small_dataset
    image = content['images'][0]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != image['id']]
    shutil.copy(folder / image['file_name'], folder / 'another.jpg')
    jpeg(folder / image['file_name'], orientation=3, size=(96, 96))
    report = check_set(str(write_annotations(content, folder)), str(folder))
    assert not report.problems
    notes = [line for line in sentences(report) if line.startswith('note: ')]
    assert any('image files that EXIF rotates or mirrors: 1' in line for line in notes)
    assert any(f'images without objects: 1, such as {image["file_name"]}' in x for x in notes)
    assert any(
        'are missing in the annotation file: 1' in line and 'another.jpg' in line for line in notes
    )


# Counts and drawings


def test_category_names_that_differ_only_in_case(small_dataset):
    content, folder = small_dataset
    names = [category['name'] for category in content['categories']]
    content['categories'][1]['name'] = f' {names[0].capitalize()}'
    report = check_set(write_annotations(content, folder), str(folder))
    assert not report.problems
    (note,) = [finding for finding in report.findings if 'case or spaces' in finding.title]
    assert note.count == 1
    assert note.examples == (f"'{names[0]}' and ' {names[0].capitalize()}'",)


def test_counts_are_those_of_the_shapes(tmp_path):
    shapes = ShapesDetection(train=8, val=4, size=128)
    shapes.write(tmp_path)
    coco = read_coco(str(tmp_path / 'annotations/instances_train2017.json'))
    distribution = measure(coco)
    counts = shapes.count(tmp_path)['train']
    for place, name in enumerate(CLASSES):
        for column, size in enumerate(('small', 'medium', 'large')):
            assert distribution.objects[place, column] == counts[name, size]
    assert distribution.objects.sum() == sum(counts.values()) > 8
    per_image = np.unique(coco.annotations.images, return_counts=True)[1]
    assert distribution.per_image[-1] == per_image.max()
    assert distribution.per_image[3] == np.median(per_image)
    assert class_table(distribution).row_count == len(CLASSES) + 1


@pytest.mark.parametrize('keep_ratio', [True, False])
@pytest.mark.parametrize('size', [(640, 480), (480, 640), (2000, 100)])
def test_resize_is_mmcvs(size, keep_ratio):
    resize = Resize(((1333, 800),), keep_ratio)
    expected = mmcv.rescale_size(size, (1333, 800)) if keep_ratio else (1333, 800)
    factors = resize.factors(np.array([size], dtype=float))[0]
    assert np.abs(factors * size - expected).max() <= 0.5


@pytest.mark.parametrize(
    ('transform', 'expected'),
    [
        (dict(type='Resize', scale=(1333, 800), keep_ratio=True), Resize(((1333, 800),))),
        (dict(type='mmdet.Resize', scale=(64, 64)), Resize(((64, 64),), keep_ratio=False)),
        (
            dict(type='RandomChoiceResize', scales=[(480, 99), (512, 99)], keep_ratio=True),
            Resize(((480, 99), (512, 99))),
        ),
        (dict(type='RandomFlip', prob=0.5), None),
    ],
)
def test_resize_of_a_pipeline(transform, expected):
    assert find_resize(dataset_config(pipeline=[transform])) == expected


def test_faulty_images_are_drawn_first(small_dataset):
    content, folder = small_dataset
    coco = read_coco(str(write_annotations(content, folder)))
    faulty = Finding('faults', 2, images=(3, 2))
    assert choose(coco, [faulty], 2) == [3, 0]
    assert sorted(choose(coco, [faulty], 9)) == [0, 1, 2, 3]
    assert choose(coco, [], 2) == [0, 2]


def test_drawings(capsys, small_dataset, tmp_path):
    """Draw boxes and masks in their place, and skip an unreadable image."""
    content, folder = small_dataset
    for image in content['images']:
        cv2.imwrite(str(folder / image['file_name']), np.zeros((96, 96, 3), np.uint8))
    first, second, broken, _ = (image['id'] for image in content['images'])
    box = dict(category_id=1, iscrowd=0, area=400)
    square = [[60, 60, 80, 60, 80, 80, 60, 80]]
    content['annotations'] = [
        dict(box, id=1, image_id=first, bbox=[60, 60, 20, 20], segmentation=square),
        dict(box, id=2, image_id=second, bbox=[60, 60, 20, 20]),
        dict(box, id=4, image_id=second, bbox=[400, 400, 20, 20]),
        dict(box, id=5, image_id=second, bbox=[88, 88, 200, 200], segmentation=[[0, 0, 1e12] * 2]),
        dict(
            box,
            id=6,
            image_id=second,
            bbox=[2, 80, 9, 9],
            segmentation=dict(size=[96, 96], counts='no RLE'),
        ),
        dict(box, id=3, image_id=broken, bbox=[60, 60, 20, 20], segmentation=[[1, 2]]),
    ]
    (folder / content['images'][2]['file_name']).write_bytes(b'none')
    path, pictures = write_annotations(content, folder), tmp_path / 'pictures'
    code = dsnet_mm_ends('check-data', path, folder, '--draw', pictures)
    assert 'has 6 kinds of problems' in code
    assert f'2 images drawn into {pictures}' in capsys.readouterr().out
    names = {image['id']: Path(image['file_name']).stem for image in content['images']}
    drawn = {file.stem.split('_')[1]: cv2.imread(str(file)) for file in pictures.iterdir()}
    assert sorted(drawn) == sorted([names[first], names[second]])
    with_mask, with_box = drawn[names[first]], drawn[names[second]]
    assert with_mask.shape == (96, 96, 3)
    assert with_mask[72:78, 72:78].max(-1).mean() > 60
    assert with_box[72:78, 72:78].max(-1).mean() < 30  # nothing but its frame
    assert with_box[60:80, 78:82].max() > 100
    assert with_mask[:40, :40].max() < 30


@pytest.mark.shared
@pytest.mark.parametrize('split', ['train2017', 'val2017'])
def test_real_photographs(split):
    """Reproduce the counts in the README of the COCO sample, without problems."""
    root = SHARED / 'coco_mini'
    cfg = Config.fromfile(ROOT / 'configs' / 'mask_rcnn_dsnet_s_fpn_1x_coco.py')
    report = check_set(
        str(root / f'annotations/instances_{split}.json'), str(root / split), cfg, decode=True
    )
    distribution = report.distribution
    images, objects, crowds = dict(train2017=(334, 2838, 28), val2017=(204, 1786, 21))[split]
    assert len(report.coco.images.ids) == images
    assert distribution.objects.sum() + distribution.crowds.sum() == objects
    assert distribution.crowds.sum() == crowds
    assert (distribution.images > 0).all()
    assert [finding.title for finding in report.problems] == []
