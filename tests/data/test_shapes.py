"""Test that synthetic datasets match their pixels, are reproducible, and are written atomically."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmpretrain.datasets import CustomDataset
from PIL import Image
from pycocotools.coco import COCO

from dsnet_mm.data import shapes as shapes_module
from dsnet_mm.data.shapes import (
    METAINFO,
    MIN_VISIBLE,
    SIZE_BINS,
    ShapesDetection,
    mask_to_polygons,
    size_bin,
)
from dsnet_mm.data.shapes_classification import ShapesClassification
from dsnet_mm.data.shapes_drawing import draw_background, paint
from dsnet_mm.data.shapes_segmentation import SEGMENTATION_METAINFO, ShapesSegmentation
from dsnet_mm.errors import UserError
from helpers.commands import dsnet_mm_ends

SETS = [ShapesDetection, ShapesClassification, ShapesSegmentation]


@pytest.fixture(scope='module')
def detection(tmp_path_factory):
    """Return a small detection dataset and its root."""
    shapes = ShapesDetection(train=40, val=20)
    root = tmp_path_factory.mktemp('shapes')
    assert shapes.write(root)
    return shapes, root


def read_all(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def run_command(*args):
    """Run the command in this process and return 0, or the text for stderr."""
    return dsnet_mm_ends('shapes', *args)


def iou(first, second):
    return np.logical_and(first, second).sum() / np.logical_or(first, second).sum()


def rendered(polygons, shape):
    """Return the mask that pycocotools renders from ``polygons``."""
    height, width = shape
    coco = COCO()
    coco.imgs = {1: dict(height=height, width=width)}
    return coco.annToMask(dict(image_id=1, segmentation=polygons)).astype(bool)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotations_match_the_visible_pixels(detection, split):
    shapes, root = detection
    coco = COCO(root / 'annotations' / f'instances_{split}2017.json')
    assert [item['name'] for item in coco.dataset['categories']] == list(METAINFO['classes'])
    assert len(coco.dataset['images']) == getattr(shapes, split)
    for index, image in enumerate(coco.dataset['images']):
        pixels = cv2.imread(str(root / f'{split}2017' / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (256, 256, 3)
        drawn, labels, masks = shapes.sample(split, index)
        assert np.abs(pixels.astype(float) - drawn).mean() < 8  # the loss of JPEG
        annotations = coco.imgToAnns[image['id']]
        assert [item['category_id'] - 1 for item in annotations] == labels
        for item, mask in zip(annotations, masks, strict=True):
            outlined = coco.annToMask(item).astype(bool)
            assert iou(outlined, mask) > 0.9
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            extent = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert item['bbox'] == extent
            assert item['area'] == mask.sum()
            assert outlined.sum() == pytest.approx(item['area'], rel=0.1)
            assert all(len(p) >= 6 and len(p) % 2 == 0 for p in item['segmentation'])


def test_masks_match_the_painted_objects():
    shapes = ShapesDetection()
    for index in range(8):
        image, _, masks = shapes.sample('train', index)
        background = draw_background(shapes._random('train', index), shapes.size)
        painted = np.linalg.norm(image - background, axis=2) > 50  # noise is weaker
        objects = np.any(masks, axis=0)
        around = cv2.dilate(objects.astype(np.uint8), np.ones((3, 3))).astype(bool)
        assert painted[objects].mean() > 0.85
        assert painted[~around].mean() < 0.01


def test_hidden_parts_are_not_annotated(monkeypatch):
    covers = []
    monkeypatch.setattr(shapes_module, 'paint', lambda rng, image, cover: covers.append(cover))
    shapes = ShapesDetection()
    overlaps = 0
    for index in range(12):
        covers.clear()
        _, labels, masks = shapes.sample('train', index)
        assert len(labels) == len(masks) == len(covers)
        hidden = np.zeros((shapes.size, shapes.size), bool)
        for cover, mask in zip(reversed(covers), reversed(masks), strict=True):
            whole = cover >= 128
            visible = whole & ~hidden
            overlaps += (whole & hidden).any()
            assert not (mask & ~visible).any()
            assert mask.sum() >= 0.95 * visible.sum()  # small pieces may be dropped
            assert visible.sum() >= 0.9 * MIN_VISIBLE * whole.sum()
            hidden |= whole
    assert overlaps > 5


def test_small_pieces_are_dropped_but_never_whole_objects():
    mask = np.zeros((30, 30), bool)
    mask[0, :9] = mask[5, :10] = mask[10:20, 10:20] = True
    kept = mask.copy()
    kept[0] = False
    assert (shapes_module._without_crumbs(mask) == kept).all()
    small = np.zeros((30, 30), bool)
    small[0, :3] = small[9, :2] = True
    assert shapes_module._without_crumbs(small).sum() == 3


def test_objects_differ_from_what_they_cover():
    rng = np.random.default_rng(0)
    cover = np.zeros((64, 64), np.uint8)
    cover[20:40, 10:50] = 255
    for _ in range(100):
        color = rng.uniform(90, 160, 3).astype(np.float32)
        image = np.tile(color, (64, 64, 1))
        paint(rng, image, cover)
        assert np.linalg.norm(image[20:40, 10:50].mean((0, 1)) - color) > 75
        assert (image[cover == 0] == color).all()


def test_dataset_is_varied(detection):
    shapes, root = detection
    for split, counts in shapes.count(root).items():
        assert {name for name, _ in counts} == set(METAINFO['classes'])
        assert {column for _, column in counts} == set(SIZE_BINS)
        numbers = [len(shapes.sample(split, index)[1]) for index in range(20)]
        assert min(numbers) == 0
        assert 5 <= max(numbers) <= 8
    assert len(METAINFO['palette']) == len(METAINFO['classes'])


@pytest.mark.parametrize(
    ('area', 'name'),
    [(1023, 'small'), (1024, 'medium'), (9215, 'medium'), (9216, 'large')],
)
def test_size_bin(area, name):
    assert size_bin(area) == name


def picture(*rows):
    return np.repeat(np.repeat(np.array([[c == '#' for c in row] for row in rows]), 3, 0), 3, 1)


@pytest.mark.parametrize(
    ('mask', 'pieces'),
    [
        (picture('....', '.##.', '.##.'), 1),
        (picture('##..', '##..', '...#'), 2),
        (picture('#####', '#.#.#', '#####'), 3),
        (picture('####', '#..#', '####'), 2),
        (np.ones((1, 20), bool), 1),
        (np.ones((1, 1), bool), 1),
        (np.zeros((5, 5), bool), 0),
    ],
    ids=['one', 'two', 'two holes', 'hole', 'line', 'pixel', 'nothing'],
)
def test_polygons_of_pieces_and_holes(mask, pieces):
    polygons = mask_to_polygons(mask)
    assert len(polygons) == pieces
    if pieces:
        assert (rendered(polygons, mask.shape) == mask).all()


@pytest.mark.parametrize('set_type', SETS)
def test_same_seed_gives_the_same_files(tmp_path, set_type):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        set_type(train=5, val=4, size=64, seed=seed).write(tmp_path / name)
    set_type(train=3, val=4, size=64, seed=3).write(tmp_path / 'fewer')
    first, again, other, fewer = (read_all(tmp_path / n) for n in ('a', 'b', 'c', 'fewer'))
    assert first == again
    assert sorted(first) == sorted(set_type(train=5, val=4, size=64).files()) == sorted(other)
    pictures = [name for name in first if name.endswith('.jpg')]
    assert not any(first[name] == other[name] for name in pictures)
    assert len({first[name] for name in pictures}) == 9  # train and val are disjoint
    assert all(first[name] == fewer[name] for name in fewer if name.endswith('.jpg'))


def test_info_contains_the_options(detection):
    _, root = detection
    info = json.loads((root / 'annotations/instances_val2017.json').read_text())['info']
    assert info['seed'] == 0
    assert info['options'] == dict(task='detection', train=40, val=20, size=256, seed=0)
    assert {'generator', 'version'} <= set(info)


def test_classification_has_one_object_per_image(tmp_path):
    shapes = ShapesClassification(train=9, val=4)
    shapes.write(tmp_path)
    for index in range(8):
        image, label = shapes.sample('train', index)
        background = draw_background(shapes._random('train', index), shapes.size)
        painted = (np.linalg.norm(image - background, axis=2) > 50).mean()
        assert 0.04 < painted < 0.55
        name = METAINFO['classes'][label]
        stored = cv2.imread(str(tmp_path / 'train' / name / f'{index + 1:06d}.jpg'))
        assert np.abs(stored.astype(float) - image).mean() < 12
    counts = shapes.count(tmp_path)
    assert [counts['train'][name, 'images'] for name in METAINFO['classes']] == [3, 2, 2, 2]
    assert [counts['val'][name, 'images'] for name in METAINFO['classes']] == [1, 1, 1, 1]


def test_mmpretrain_numbers_the_classes_in_the_same_order(tmp_path):
    ShapesClassification(train=4, val=4).write(tmp_path)
    found = CustomDataset(
        data_root=str(tmp_path), data_prefix='val', metainfo=dict(classes=METAINFO['classes'])
    )
    assert len(found) == 4
    for item in (found.get_data_info(index) for index in range(4)):
        assert Path(item['img_path']).parent.name == METAINFO['classes'][item['gt_label']]


def test_a_label_map_has_the_class_of_each_pixel(tmp_path):
    shapes = ShapesSegmentation(train=20, val=2, size=64)
    shapes.write(tmp_path)
    seen = Counter()
    for index in range(20):
        image, label_map = shapes.sample('train', index)
        stored = np.asarray(Image.open(tmp_path / f'annotations/training/{index + 1:06d}.png'))
        assert stored.shape == (64, 64)
        assert (stored == label_map).all()
        # the drawing leaves the background alone, and changes every object
        background = draw_background(shapes._random('train', index), shapes.size)
        difference = np.linalg.norm(image - background, axis=2)
        for number in np.unique(label_map):
            seen[SEGMENTATION_METAINFO['classes'][number], 'images'] += 1
            median = np.median(difference[label_map == number])
            assert (median > 50) == (number > 0)
    assert (label_map == 0).all()  # the twentieth image is empty
    assert len(seen) == 5
    assert shapes.count(tmp_path)['train'] == seen


def test_a_label_map_has_the_numbers_of_the_objects(monkeypatch):
    owner = np.array([[-1, 0], [1, 2]])
    scene = np.zeros((2, 2, 3), np.uint8), [3, 0, 3], owner
    monkeypatch.setattr('dsnet_mm.data.shapes_segmentation.draw_scene', lambda *_: scene)
    label_map = ShapesSegmentation().sample('train', 0)[1]
    assert label_map.tolist() == [[0, 4], [1, 4]]
    assert SEGMENTATION_METAINFO['classes'][1:] == METAINFO['classes']


def test_mmdet_reads_the_dataset_by_its_root(detection):
    shapes, root = detection
    found = CocoDataset(
        data_root=str(root),
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        metainfo=METAINFO,
    )
    assert len(found) == shapes.val
    for index in range(shapes.val):
        item = found.get_data_info(index)
        assert Path(item['img_path']).is_file()
        labels = [instance['bbox_label'] for instance in item['instances']]
        assert labels == shapes.sample('val', index)[1]


@pytest.mark.parametrize('set_type', SETS)
def test_existing_dataset_is_reused(tmp_path, set_type):
    shapes = set_type(train=2, val=1, size=32)
    assert shapes.write(tmp_path / 'data' / 'set')
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'data/set').rglob('*')}
    assert not shapes.write(tmp_path / 'data' / 'set')
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'data/set').rglob('*')} == before


@pytest.mark.parametrize('set_type', SETS)
def test_other_files_are_replaced_only_by_force(tmp_path, set_type):
    shapes = set_type(train=2, val=1, size=32)
    record = tmp_path / shapes.record
    foreign = tmp_path / shapes.entries[0] / 'foreign.txt'
    bystander = tmp_path / 'notes.txt'
    for path in (record, foreign, bystander):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"info": {"year": 2017}}')
    before = read_all(tmp_path)
    with pytest.raises(UserError, match=r'is not a folder of synthetic shapes; .*--force'):
        shapes.write(tmp_path)
    assert read_all(tmp_path) == before
    assert shapes.write(tmp_path, force=True)
    assert sorted(read_all(tmp_path)) == sorted([*shapes.files(), 'notes.txt'])
    assert not shapes.write(tmp_path)


@pytest.mark.parametrize('change', [dict(seed=1), dict(train=3), dict(size=48)])
def test_dataset_with_other_options_is_refused(tmp_path, change):
    ShapesDetection(train=2, val=1, size=32).write(tmp_path)
    before = read_all(tmp_path)
    other = ShapesDetection(**{**dict(train=2, val=1, size=32), **change})
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=rf'drawn with .*not with .*{name}={value}.*--force'):
        other.write(tmp_path)
    assert read_all(tmp_path) == before


def test_dataset_with_a_missing_image_is_refused(tmp_path):
    shapes = ShapesDetection(train=2, val=1, size=32)
    shapes.write(tmp_path)
    (tmp_path / shapes.files()[-1]).unlink()
    with pytest.raises(UserError, match=r'lacks 1 files .*val2017/000001000001.jpg.*--force'):
        shapes.write(tmp_path)


@pytest.mark.parametrize('set_type', SETS)
def test_interrupted_run_leaves_no_dataset(tmp_path, set_type):
    def interrupt(images):
        yield images[0]
        raise KeyboardInterrupt

    shapes = set_type(train=2, val=1, size=32)
    with pytest.raises(KeyboardInterrupt):
        shapes.write(tmp_path / 'new', progress=interrupt)
    assert not read_all(tmp_path / 'new')

    shapes.write(tmp_path / 'old')
    before = read_all(tmp_path / 'old')
    with pytest.raises(KeyboardInterrupt):
        shapes.write(tmp_path / 'old', force=True, progress=interrupt)
    assert read_all(tmp_path / 'old') == before


def test_killed_run_is_repeated(tmp_path, monkeypatch):
    shapes = ShapesDetection(train=2, val=1, size=32)

    def killed(path, *_):
        raise SystemError

    # A killed process cannot clean up, so disable the clean-up.
    with monkeypatch.context() as patch:
        patch.setattr('dsnet_mm.data.shapes_folder._remove', lambda path: None)
        with pytest.raises(SystemError):
            shapes.write(tmp_path, progress=killed)
    assert [path.name for path in tmp_path.iterdir()] == ['.dsnet_mm_partial']
    assert shapes.write(tmp_path)
    assert sorted(read_all(tmp_path)) == sorted(shapes.files())


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--train', -1], '--train is -1'),
        (['--val', 0], '--val is 0'),
        (['--size', 31], '--size is 31'),
        (['--seed', -5], '--seed is -5'),
        (['--task', 'classification', '--train', 0], '--train is 0'),
    ],
)
def test_bad_options_are_reported(tmp_path, options, words):
    message = run_command('--root', tmp_path / 'set', *options)
    assert message.startswith(f'error: {words} but must be at least')
    assert '\n' not in message
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('below', ['', 'below'])
def test_unwritable_root_is_reported(tmp_path, below):
    (tmp_path / 'file').write_text('')
    message = run_command('--root', tmp_path / 'file' / below, '--train', 1)
    assert message.startswith(f'error: cannot write {tmp_path}/file')
    assert '(Not a directory); choose another folder with --root' in message
    assert '\n' not in message


@pytest.mark.parametrize('task', ['detection', 'classification', 'segmentation'])
def test_command_reports_size_and_folder(capsys, tmp_path, task):
    args = ['--task', task, '--root', tmp_path / 'set', '--train', 6, '--val', 2, '--size', 64]
    assert run_command(*args) == 0
    output = capsys.readouterr().out
    assert f'wrote 6 training and 2 validation images of 64x64 pixels in {tmp_path}/set' in output
    for word in (*METAINFO['classes'], 'small' if task == 'detection' else 'images'):
        assert word in output
    assert run_command(*args) == 0
    assert 'found 6 training and 2 validation images' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('task', 'folder', 'options'),
    [
        ('detection', 'data/shapes', dict(train=400, val=100, size=256, seed=0)),
        ('classification', 'data/shapes_cls', dict(train=400, val=100, size=64, seed=0)),
        ('segmentation', 'data/shapes_seg', dict(train=400, val=100, size=96, seed=0)),
    ],
)
def test_defaults_of_the_command(monkeypatch, task, folder, options):
    calls = []

    def write(self, root, force, progress):
        calls.append((self.info['options'], root, force))
        raise UserError('stop here')

    monkeypatch.setattr('dsnet_mm.data.shapes_folder.ShapesSet.write', write)
    assert run_command('--task', task) == 'error: stop here'
    assert calls == [(dict(task=task, **options), folder, False)]
