"""Test the command `dsnet-mm check-data` with every kind of fault."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, dsnet_mm_ends, run_command
from mmengine.config import Config
from PIL import Image

from dsnet_mm.data.checking.coco_file import read_coco
from dsnet_mm.data.checking.config_checks import check_config
from dsnet_mm.data.shapes import METAINFO
from dsnet_mm.errors import counted

FINETUNE = ROOT / 'configs' / 'finetune' / 'retinanet_dsnet_s_finetune.py'
CLASSES = METAINFO['classes']


@pytest.fixture
def small_dataset(shapes_root, tmp_path):
    return copy_of_shapes(shapes_root, tmp_path)


def copy_of_shapes(shapes_root, tmp_path):
    """Return the faultless content of an annotation file of four images, and its folder."""
    folder = tmp_path / 'images'
    shutil.copytree(shapes_root / 'val2017', folder)
    content = json.loads((shapes_root / 'annotations/instances_val2017.json').read_text())
    return content, folder


def write(content, folder):
    path = folder.parent / 'ann.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def run(monkeypatch, *args):
    """Run the command in this process and return 0, 2, or the text for stderr."""
    return dsnet_mm_ends('check-data', *args)


def files_below(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def problems(output):
    """Return the lines of the output that report problems, by the title of the check."""
    lines = [line for line in output.splitlines() if line.startswith('problem: ')]
    return {line.removeprefix('problem: ').split(':')[0]: line for line in lines}


def jpeg(path, orientation=None, size=(64, 48), form='JPEG'):
    """Write an image with an EXIF orientation."""
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size[::-1], 3)).save(
        path, form, exif=exif
    )


def set_entry(key, field, value, place=0):
    def plant(content, folder):
        content[key][place][field] = value

    return plant


def drop(key, field):
    def plant(content, folder):
        del content[key][0][field]

    return plant


def set_box(*box):
    return set_entry('annotations', 'bbox', list(box))


def set_mask(mask):
    return set_entry('annotations', 'segmentation', mask)


def double(key, *fields):
    """Copy fields of the first entry to the second one."""

    def plant(content, folder):
        for field in fields:
            content[key][1][field] = content[key][0][field]

    return plant


def without_objects(content, folder):
    content['annotations'] = []


def remove_image(content, folder):
    (folder / content['images'][0]['file_name']).unlink()


def rewrite_image(change):
    def plant(content, folder):
        path = folder / content['images'][0]['file_name']
        path.write_bytes(change(path.read_bytes()))

    return plant


def turn_image(content, folder):
    jpeg(folder / content['images'][0]['file_name'], orientation=6, size=(64, 48))
    content['images'][0].update(width=64, height=48)
    for annotation in content['annotations']:
        annotation.update(bbox=[1, 1, 20, 20], segmentation=[[1, 1, 21, 1, 21, 21]])


def as_fractions(content, folder):
    for annotation in content['annotations']:
        annotation['bbox'] = [side / 96 for side in annotation['bbox']]


def as_corners(content, folder):
    for annotation in content['annotations']:
        annotation['bbox'] = [50, 50, 80, 80]


ENTRY_FAULTS = {
    'image id missing': (drop('images', 'id'), 'images whose id is not an integer',
                         'annotations whose image is not in the file'),
    'image id doubled': (double('images', 'id'), 'images with a duplicate id',
                         'annotations whose image is not in the file'),
    'category id a text': (set_entry('categories', 'id', '1'),
                           'categories whose id is not an integer',
                           'annotations whose category is not in the file'),
    'category id doubled': (double('categories', 'id'), 'categories with a duplicate id'),
    'category name missing': (drop('categories', 'name'), 'categories without a name'),
    'category name doubled': (double('categories', 'name'),
                              'categories with the same name as another category'),
    'annotation id missing': (drop('annotations', 'id'),
                              'annotations whose id is not an integer'),
    'annotation id doubled': (double('annotations', 'id'),
                              'annotations with a duplicate id'),
    'annotation id 0': (set_entry('annotations', 'id', 0), 'annotations with the id 0'),
    'image of annotation unknown': (set_entry('annotations', 'image_id', 7),
                                    'annotations whose image is not in the file'),
    'image of annotation a list': (set_entry('annotations', 'image_id', [1]),
                                   'annotations whose image is not in the file'),
    'category of annotation unknown': (set_entry('annotations', 'category_id', 9),
                                       'annotations whose category is not in the file'),
    'no file name': (drop('images', 'file_name'), 'images without a file name'),
    'file name doubled': (double('images', 'file_name'),
                          'images with the same file name as another image'),
    'no width': (drop('images', 'width'), 'images without width and height'),
    'height a text': (set_entry('images', 'height', '96'), 'images without width and height'),
    'no object at all': (without_objects, 'images without objects'),
    'no box': (drop('annotations', 'bbox'), 'annotations without a box of four numbers'),
    'box of three numbers': (set_box(1, 2, 3), 'annotations without a box of four numbers'),
    'box of texts': (set_box('1', '2', '3', '4'), 'annotations without a box of four numbers'),
    'box not finite': (set_box(1, 2, 3, float('nan')),
                       'annotations without a box of four numbers'),
    'box without width': (set_box(5, 5, 0, 9),
                          'boxes narrower or lower than one pixel'),
    'boxes in fractions': (as_fractions, 'boxes narrower or lower than one pixel'),
    'box outside': (set_box(100, 5, 9, 9), 'boxes outside their image'),
    'box over the edge': (set_box(90, 5, 9, 9),
                          'boxes that extend beyond their image by more than one pixel'),
    'boxes of corners': (as_corners,
                         'boxes that extend beyond their image by more than one pixel'),
    'no area': (drop('annotations', 'area'), 'annotations without an area above 0'),
    'area 0': (set_entry('annotations', 'area', 0), 'annotations without an area above 0'),
    'polygon of two points': (set_mask([[1, 2, 3, 4]]), 'polygons with fewer than three points'),
    'polygon of points': (set_mask([[[1, 2], [3, 4], [5, 6]]]),
                          'masks that are neither polygons nor RLE'),
    'polygon not in a list': (set_mask([1, 2, 3, 4, 5, 6]),
                              'masks that are neither polygons nor RLE'),
    'mask a text': (set_mask('mask.png'), 'masks that are neither polygons nor RLE'),
    'RLE that does not fill': (set_mask(dict(size=[96, 96], counts=[3, 4])),
                               'masks that are neither polygons nor RLE'),
    'RLE of another size': (set_mask(dict(size=[9, 9], counts=[80, 1])),
                            'RLE masks whose size differs from the image size'),
    'file missing': (remove_image, 'missing image files'),
    'file cut off': (rewrite_image(lambda data: data[: len(data) // 2]),
                     'unreadable or truncated image files'),
    'file empty': (rewrite_image(lambda data: b''), 'unreadable or truncated image files'),
    'file no image': (rewrite_image(lambda data: b'<html>' * 99),
                      'unreadable or truncated image files'),
    'size another': (set_entry('images', 'width', 97),
                     'image files whose size differs from the annotation file'),
    'turned by EXIF': (turn_image, 'image files whose size differs from the annotation file'),
}  # fmt: skip
HINTS = {
    'boxes in fractions': 'seem to be fractions of the image',
    'boxes of corners': 'seem to be [left, top, right, bottom]',
    'turned by EXIF': 'in 1 of them width and height are swapped: mmdet applies the EXIF',
    'annotation id 0': 'The COCO metric treats id 0 as',
    'size another': '(96x96 instead of 97x96). The boxes do not fit',
}


def test_a_dataset_without_faults(monkeypatch, capsys, small_dataset):
    content, folder = small_dataset
    path = write(content, folder)
    assert run(monkeypatch, path, folder) == 0
    output = capsys.readouterr().out
    assert problems(output) == {}
    assert 'PROBLEM' not in output
    assert f'{path}: no problems' in output
    assert 'opening images' in output


@pytest.mark.parametrize('fault', ENTRY_FAULTS)
def test_one_fault(monkeypatch, capsys, small_dataset, fault):
    """Check that one fault leads to exit status 1, its own sentence, and no other problem."""
    content, folder = small_dataset
    plant, *titles = ENTRY_FAULTS[fault]
    plant(content, folder)
    path = write(content, folder)
    before = files_below(folder.parent)
    code = run(monkeypatch, path, folder)
    assert code == (
        f'error: {path} has {counted(len(titles), "kind")} of problems; fix the problems listed '
        'above, then check again'
    )
    output = capsys.readouterr().out
    assert set(problems(output)) == set(titles)
    line = problems(output)[titles[0]]
    assert 'such as ' in line
    assert line.endswith('.')
    assert HINTS.get(fault, '') in line
    assert 'PROBLEM' in output
    assert files_below(folder.parent) == before


def text_of(content):
    return json.dumps(content)


FILE_FAULTS = {
    'empty': (lambda content: '', 'is not valid JSON'),
    'cut off': (lambda content: text_of(content)[:-30], 'is not valid JSON'),
    'deep': (lambda content: '[' * 100_000, 'is not valid JSON'),
    'a list': (lambda content: text_of([1]), 'contains a list'),
    'a number': (lambda content: '7', 'contains a number'),
    'predictions': (
        lambda content: text_of([dict(image_id=1, category_id=1, bbox=[1, 1, 2, 2], score=0.5)]),
        'contains predictions',
    ),
    'no categories': (
        lambda content: text_of({k: v for k, v in content.items() if k != 'categories'}),
        "has no 'categories', only 'info', 'licenses', 'images', 'annotations'",
    ),
    'images an object': (
        lambda content: text_of({**content, 'images': {}}),
        "'images' in {path} is an object but must be a list",
    ),
    'an annotation a list': (
        lambda content: text_of({**content, 'annotations': [[1, 2]]}),
        "entry 0 of 'annotations' in {path} is a list",
    ),
    'no images': (
        lambda content: text_of({**content, 'images': []}),
        "'images' in {path} is empty",
    ),
}


@pytest.mark.parametrize('fault', FILE_FAULTS)
def test_a_file_of_another_format(monkeypatch, small_dataset, fault):
    content, folder = small_dataset
    make, words = FILE_FAULTS[fault]
    path = write(make(content), folder)
    before = files_below(folder.parent)
    code = run(monkeypatch, path, folder)
    assert code.startswith('error: ')
    assert str(path) in code
    assert words.format(path=path) in code
    assert ';' in code
    assert '\n' not in code
    assert files_below(folder.parent) == before


@pytest.mark.parametrize(
    ('data', 'words'), [(b'\xff\xfe{}', 'not UTF-8 text'), (b'\xef\xbb\xbf{}', 'BOM')]
)
def test_a_file_in_another_encoding(monkeypatch, tmp_path, data, words):
    path = tmp_path / 'ann.json'
    path.write_bytes(data)
    code = run(monkeypatch, path, tmp_path)
    assert code.startswith(f'error: {path} is not ')
    assert words in code


def test_bad_arguments(monkeypatch, capsys, small_dataset, tmp_path):
    content, folder = small_dataset
    path = write(content, folder)
    (tmp_path / 'no_data.py').write_text('model = dict()')
    before = files_below(tmp_path)
    cases = [
        ([tmp_path / 'no.json', folder], 'no.json cannot be read (No such file'),
        ([folder, folder], 'images cannot be read (Is a directory'),
        ([path, tmp_path / 'no'], 'no is not a folder; pass the folder to which the file names in'),
        ([path, path], 'ann.json is not a folder'),
        ([path, folder, '--config', 'no.py'], 'no.py is not a file; pass the path of a config'),
        ([path, folder, '--config', tmp_path / 'no_data.py'], 'has no dataset with classes'),
        ([path, folder, '--draw', folder], 'already holds files; pass another folder as --draw'),
        ([path, folder, '--draw', path], 'ann.json is not a folder; choose another'),
    ]
    for args, words in cases:
        code = run(monkeypatch, *args)
        assert code.startswith('error: '), args
        assert words in code
        assert '\n' not in code
    assert run(monkeypatch, path, folder, '--draw-count', 0) == 2
    assert '--draw-count: 0 must be at least 1' in capsys.readouterr().err
    assert run(monkeypatch, path) == 2
    assert 'the following arguments are required: IMAGES' in capsys.readouterr().err
    assert files_below(tmp_path) == before


@pytest.mark.slow
def test_the_command(small_dataset):
    """Check exit status, stdout and stderr of the command in a process of its own."""
    content, folder = small_dataset
    set_box(100, 5, 9, 9)(content, folder)
    done = run_command('check-data', write(content, folder), folder)
    assert done.returncode == 1
    assert 'problem: boxes outside their image: 1, such as annotation 1 in ' in done.stdout
    assert done.stderr.splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in done.stderr


# The config


def config(classes=CLASSES, num_classes=4, pipeline=(), **dataset):
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


def with_roi_head(cfg):
    heads = [dict(type='Shared2FCBBoxHead', num_classes=number) for number in (4, 80, 4)]
    cfg.model = dict(
        rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=heads, mask_head=dict(num_classes=5)),
    )
    return cfg


def with_other_val(cfg):
    cfg.val_dataloader.dataset.metainfo.classes = ('circle',)
    return cfg


CONFIG_FAULTS = {
    'a class missing in the file': (
        config((*CLASSES, 'ring'), 5),
        'classes of the config that are missing in the file',
        "1, such as 'ring'",
    ),
    'a misspelled class': (
        config(('Circle', *CLASSES[1:])),
        'classes of the config that are missing in the file',
        "such as 'Circle'",
    ),
    'no class shared': (
        config(('cat',), 1),
        'classes of the config that are missing in the file',
        'leads to an AP of -1',
    ),
    'classes of COCO': (
        config(None, 80),
        'classes of the config that are missing in the file',
        "the file has 'circle', 'square', 'star', 'triangle'",
    ),
    'a class missing in the config': (
        config(CLASSES[:3], 3),
        'categories with objects that are missing in the config',
        "1, such as 'triangle'",
    ),
    'another order': (
        config(CLASSES[::-1]),
        'classes in a different order than the categories of the file',
        f'write classes = {CLASSES!r}',
    ),
    'num_classes of one head': (
        config(num_classes=80),
        'heads with a wrong number of classes',
        '1, such as model.bbox_head.num_classes is 80',
    ),
    'num_classes of nested heads': (
        with_roi_head(config()),
        'heads with a wrong number of classes',
        '2, such as model.roi_head.bbox_head.1.num_classes is 80; '
        'model.roi_head.mask_head.num_classes is 5',
    ),
    'a text instead of a list': (
        config('circle', 6),
        'classes given as a string instead of a list',
        "classes = ('circle',)",
    ),
    'other classes in val': (
        with_other_val(config()),
        'datasets whose classes differ from the first dataset of the config',
        "1, such as 'circle'",
    ),
    'no masks to train on': (
        config(pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]),
        'objects without the mask that the config needs',
        'use a config without masks',
    ),
    'images smaller than the filter': (
        config(filter_cfg=dict(filter_empty_gt=True, min_size=100)),
        'images with a side below the 100 pixels of filter_cfg',
        '4, such as',
    ),
    'a palette too short': (
        config(tuple(map(str, range(81))), 81),
        'palettes with fewer colors than classes',
        '2, such as 80 for 81 classes',
    ),
}


@pytest.mark.parametrize('fault', CONFIG_FAULTS)
def test_one_fault_of_the_config(small_dataset, fault):
    content, folder = small_dataset
    for annotation in content['annotations']:
        annotation['segmentation'] = []
    for place, annotation in enumerate(content['annotations']):
        annotation['category_id'] = place % 4 + 1
    coco = read_coco(str(write(content, folder)))
    cfg, title, words = CONFIG_FAULTS[fault]
    found = {finding.title: finding for finding in check_config(coco, cfg) if finding.fails}
    assert title in found
    assert words in found[title].sentence()
    aside = 'categories with objects that are missing in the config'
    lacking = 'classes of the config that are missing in the file'
    assert set(found) <= {title, aside, lacking}
    assert (aside in found) == (fault in ('a misspelled class', 'no class shared',
                                          'classes of COCO',
                                          'a class missing in the config',
                                          'a palette too short'))  # fmt: skip


def test_a_matching_config(small_dataset):
    content, folder = small_dataset
    coco = read_coco(str(write(content, folder)))
    assert not [finding for finding in check_config(coco, config()) if finding.fails]


def test_classes_in_a_file(small_dataset):
    content, folder = small_dataset
    (folder / 'classes.txt').write_text('\n'.join(CLASSES))
    coco = read_coco(str(write(content, folder)))
    found = check_config(coco, config(str(folder / 'classes.txt')))
    assert not [finding for finding in found if finding.fails]


def test_the_finetune_config_fits_the_shapes(monkeypatch, capsys, small_dataset):
    content, folder = small_dataset
    path = write(content, folder)
    assert run(monkeypatch, path, folder, '--config', FINETUNE) == 0
    output = capsys.readouterr().out
    assert 'heads with a wrong number of classes' in output
    assert 'resized to 1333x800' in output
    assert 'shorter side' in output
