"""Test the command `dsnet-mm check-data` with every kind of fault."""

from __future__ import annotations

import json

import pytest

from dsnet_mm.data.checking.coco_file import read_coco
from dsnet_mm.data.checking.config_checks import check_config
from dsnet_mm.errors import counted
from helpers.annotation_faults import ENTRY_FAULTS, set_box
from helpers.commands import dsnet_mm_ends, run_command
from helpers.datasets import CLASSES, dataset_config, files_below, write_annotations
from helpers.paths import ROOT

FINETUNE = ROOT / 'configs' / 'finetune' / 'retinanet_dsnet_s_finetune.py'


def problems(output):
    """Return the lines of the output that report problems, by the title of the check."""
    lines = [line for line in output.splitlines() if line.startswith('problem: ')]
    return {line.removeprefix('problem: ').split(':')[0]: line for line in lines}


HINTS = {
    'boxes in fractions': 'seem to be fractions of the image',
    'boxes of corners': 'seem to be [left, top, right, bottom]',
    'turned by EXIF': 'in 1 of them width and height are swapped: mmdet applies the EXIF',
    'annotation id 0': 'The COCO metric treats id 0 as',
    'size another': '(96x96 instead of 97x96). The boxes do not fit',
}


def test_a_dataset_without_faults(capsys, small_dataset):
    content, folder = small_dataset
    path = write_annotations(content, folder)
    assert dsnet_mm_ends('check-data', path, folder) == 0
    output = capsys.readouterr().out
    assert problems(output) == {}
    assert 'PROBLEM' not in output
    assert f'{path}: no problems' in output
    assert 'opening images' in output


@pytest.mark.parametrize('fault', ENTRY_FAULTS)
def test_one_fault(capsys, small_dataset, fault):
    """Check that one fault leads to exit status 1, its own sentence, and no other problem."""
    content, folder = small_dataset
    plant, *titles = ENTRY_FAULTS[fault]
    plant(content, folder)
    path = write_annotations(content, folder)
    before = files_below(folder.parent)
    code = dsnet_mm_ends('check-data', path, folder)
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
def test_a_file_of_another_format(small_dataset, fault):
    content, folder = small_dataset
    make, words = FILE_FAULTS[fault]
    path = write_annotations(make(content), folder)
    before = files_below(folder.parent)
    code = dsnet_mm_ends('check-data', path, folder)
    assert code.startswith('error: ')
    assert str(path) in code
    assert words.format(path=path) in code
    assert ';' in code
    assert '\n' not in code
    assert files_below(folder.parent) == before


@pytest.mark.parametrize(
    ('data', 'words'), [(b'\xff\xfe{}', 'not UTF-8 text'), (b'\xef\xbb\xbf{}', 'BOM')]
)
def test_a_file_in_another_encoding(tmp_path, data, words):
    path = tmp_path / 'ann.json'
    path.write_bytes(data)
    code = dsnet_mm_ends('check-data', path, tmp_path)
    assert code.startswith(f'error: {path} is not ')
    assert words in code


def test_bad_arguments(capsys, small_dataset, tmp_path):
    content, folder = small_dataset
    path = write_annotations(content, folder)
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
        code = dsnet_mm_ends('check-data', *args)
        assert code.startswith('error: '), args
        assert words in code
        assert '\n' not in code
    assert dsnet_mm_ends('check-data', path, folder, '--draw-count', 0) == 2
    assert '--draw-count: 0 must be at least 1' in capsys.readouterr().err
    assert dsnet_mm_ends('check-data', path) == 2
    assert 'the following arguments are required: IMAGES' in capsys.readouterr().err
    assert files_below(tmp_path) == before


@pytest.mark.slow
def test_the_command(small_dataset):
    """Check exit status, stdout and stderr of the command in a process of its own."""
    content, folder = small_dataset
    set_box(100, 5, 9, 9)(content, folder)
    done = run_command('check-data', write_annotations(content, folder), folder)
    assert done.returncode == 1
    assert 'problem: boxes outside their image: 1, such as annotation 1 in ' in done.stdout
    assert done.stderr.splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in done.stderr


# The config


def with_roi_head(cfg):
    heads = [dict(type='Shared2FCBBoxHead', num_classes=number) for number in (4, 80, 4)]
    cfg.model = dict(
        rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=heads, mask_head=dict(num_classes=5)),
    )
    return cfg


def with_panoptic_head(cfg):
    """Return the config with heads of Mask2Former, and one that also has classes of stuff."""
    cfg.model = dict(
        panoptic_head=dict(num_things_classes=4, num_stuff_classes=0),
        panoptic_fusion_head=dict(num_things_classes=80, num_stuff_classes=0),
        other_head=dict(num_things_classes=80, num_stuff_classes=53),
    )
    return cfg


def with_other_val(cfg):
    cfg.val_dataloader.dataset.metainfo.classes = ('circle',)
    return cfg


CONFIG_FAULTS = {
    'a class missing in the file': (
        dataset_config((*CLASSES, 'ring'), 5),
        'classes of the config that are missing in the file',
        "1, such as 'ring'",
    ),
    'a misspelled class': (
        dataset_config(('Circle', *CLASSES[1:])),
        'classes of the config that are missing in the file',
        "such as 'Circle'",
    ),
    'no class shared': (
        dataset_config(('cat',), 1),
        'classes of the config that are missing in the file',
        'leads to an AP of -1',
    ),
    'classes of COCO': (
        dataset_config(None, 80),
        'classes of the config that are missing in the file',
        "the file has 'circle', 'square', 'star', 'triangle'",
    ),
    'a class missing in the config': (
        dataset_config(CLASSES[:3], 3),
        'categories with objects that are missing in the config',
        "1, such as 'triangle'",
    ),
    'another order': (
        dataset_config(CLASSES[::-1]),
        'classes in a different order than the categories of the file',
        f'write classes = {CLASSES!r}',
    ),
    'num_classes of one head': (
        dataset_config(num_classes=80),
        'heads with a wrong number of classes',
        '1, such as model.bbox_head.num_classes is 80',
    ),
    'num_classes of nested heads': (
        with_roi_head(dataset_config()),
        'heads with a wrong number of classes',
        '2, such as model.roi_head.bbox_head.1.num_classes is 80; '
        'model.roi_head.mask_head.num_classes is 5',
    ),
    'num_things_classes': (
        with_panoptic_head(dataset_config()),
        'heads with a wrong number of classes',
        '1, such as model.panoptic_fusion_head.num_things_classes is 80',
    ),
    'a text instead of a list': (
        dataset_config('circle', 6),
        'classes given as a string instead of a list',
        "classes = ('circle',)",
    ),
    'other classes in val': (
        with_other_val(dataset_config()),
        'datasets whose classes differ from the first dataset of the config',
        "1, such as 'circle'",
    ),
    'no masks to train on': (
        dataset_config(pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]),
        'objects without the mask that the config needs',
        'use a config without masks',
    ),
    'images smaller than the filter': (
        dataset_config(filter_cfg=dict(filter_empty_gt=True, min_size=100)),
        'images with a side below the 100 pixels of filter_cfg',
        '4, such as',
    ),
    'a palette too short': (
        dataset_config(tuple(map(str, range(81))), 81),
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
    coco = read_coco(str(write_annotations(content, folder)))
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
    coco = read_coco(str(write_annotations(content, folder)))
    assert not [finding for finding in check_config(coco, dataset_config()) if finding.fails]


def test_classes_in_a_file(small_dataset):
    content, folder = small_dataset
    (folder / 'classes.txt').write_text('\n'.join(CLASSES))
    coco = read_coco(str(write_annotations(content, folder)))
    found = check_config(coco, dataset_config(str(folder / 'classes.txt')))
    assert not [finding for finding in found if finding.fails]


def test_the_finetune_config_fits_the_shapes(capsys, small_dataset):
    content, folder = small_dataset
    path = write_annotations(content, folder)
    assert dsnet_mm_ends('check-data', path, folder, '--config', FINETUNE, '--verbose') == 0
    output = capsys.readouterr().out
    assert 'heads with a wrong number of classes' in output
    assert 'resized to 1333x800' in output
    assert 'shorter side' in output
