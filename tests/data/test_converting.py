"""Test that `dsnet-mm convert-data` preserves all labels or writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, XMLDataset
from PIL import Image, ImageDraw

from dsnet_mm.data.checking.check import check_set
from dsnet_mm.data.converting.dataset_conversion import convert
from helpers.commands import dsnet_mm_ends, run_command
from helpers.datasets import CLASSES, files_below, read_json, voc_xml, write_split


@pytest.fixture
def voc(tmp_path, shapes_root):
    root = tmp_path / 'dataset'
    return root, write_split('voc', root, shapes_root, 'JPEGImages', 'Annotations')


@pytest.fixture
def yolo(tmp_path, shapes_root):
    root = tmp_path / 'dataset'
    objects = write_split('yolo', root, shapes_root, 'images/val', 'labels/val')
    (root / 'data.yaml').write_text(f'names: {list(CLASSES)}\nval: images/val\n')
    return root, objects


def check_content(path, root, objects, tolerance=1e-3):
    """Compare an annotation file with the labels, and run the data checks."""
    content = read_json(path)
    assert [category['name'] for category in content['categories']] == list(CLASSES)
    assert sorted(image['file_name'] for image in content['images']) == sorted(objects)
    found = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        found[annotation['image_id']].append(annotation)
    for image in content['images']:
        assert (image['width'], image['height']) == (96, 96)
        expected = objects[image['file_name']]
        assert len(found[image['id']]) == len(expected)
        for annotation, (label, box, _) in zip(found[image['id']], expected, strict=True):
            assert CLASSES[annotation['category_id'] - 1] == label
            assert np.abs(np.subtract(annotation['bbox'], box)).max() <= tolerance
    assert not check_set(str(path), str(root)).problems
    return content


# Output


@pytest.mark.parametrize('origin', [1, 0])
def test_boxes_of_voc(capsys, tmp_path, shapes_root, origin):
    root = tmp_path / 'dataset'
    objects = write_split('voc', root, shapes_root, 'JPEGImages', 'Annotations', origin=origin)
    if not origin:  # one coordinate below 1 reveals the origin
        first = next(iter(objects.values()))[0]
        first[1][:] = [0, first[1][1], first[1][0] + first[1][2], first[1][3]]
        name = Path(next(iter(objects))).name
        path = root / 'Annotations' / f'{Path(name).stem}.xml'
        path.write_text(voc_xml(name, next(iter(objects.values())), origin=0))
    assert dsnet_mm_ends('convert-data', 'voc', root, root / 'annotations') == 0
    output = capsys.readouterr().out
    assert f'coordinates are assumed to start at {origin}' in output
    assert f'classes = {CLASSES!r}' in output
    assert f"data_root = '{root}/'" in output
    assert "all_set = dict(ann_file='annotations/all.json', data_prefix=dict(img=''))" in output
    check_content(root / 'annotations/all.json', root, objects)


def test_voc_is_read_as_mmdet_reads_it(voc):
    """Compare with mmdet's VOC dataset, whose boxes end one pixel earlier."""
    root, _ = voc
    convert('voc', str(root), str(root / 'annotations'))
    metainfo = dict(classes=CLASSES)
    ours = CocoDataset(
        ann_file=str(root / 'annotations/all.json'), data_prefix=dict(img=str(root)),
        metainfo=metainfo, pipeline=[], serialize_data=False,
    )  # fmt: skip
    (root / 'list.txt').write_text(
        '\n'.join(sorted(path.stem for path in (root / 'Annotations').iterdir()))
    )
    theirs = XMLDataset(
        ann_file=str(root / 'list.txt'), data_root=str(root), metainfo=metainfo, pipeline=[],
        data_prefix=dict(sub_data_root=''), serialize_data=False,
    )  # fmt: skip
    difficult = 0
    for mine, other in zip(ours.data_list, theirs.data_list, strict=True):
        assert Path(mine['img_path']).name == Path(other['img_path']).name
        for item, reference in zip(mine['instances'], other['instances'], strict=True):
            assert item['bbox_label'] == reference['bbox_label']
            assert item['ignore_flag'] == reference['ignore_flag']
            assert item['bbox'][:2] == reference['bbox'][:2]
            assert item['bbox'][2:] == [edge + 1 for edge in reference['bbox'][2:]]
            difficult += item['ignore_flag']
    assert difficult > 0


def test_boxes_of_yolo(yolo):
    root, objects = yolo
    conversion = convert('yolo', str(root), str(root / 'annotations'))
    assert conversion.classes == CLASSES
    assert [file.path.name for file in conversion.written] == ['val.json']
    check_content(root / 'annotations/val.json', root, objects)


def test_polygons_of_yolo(tmp_path, shapes_root):
    """Keep the corners of polygons, and derive box and area from them."""
    root = tmp_path / 'dataset'
    objects = write_split('yolo', root, shapes_root, 'images', 'labels', polygons=True)
    (root / 'classes.txt').write_text('\n'.join(CLASSES))
    convert('yolo', str(root), str(root / 'annotations'))
    content = read_json(root / 'annotations/all.json')
    outlines = [outline for items in objects.values() for _, _, (outline, *_) in items]
    assert len(outlines) == len(content['annotations'])
    for annotation, outline in zip(content['annotations'], outlines, strict=True):
        ((*found,),) = annotation['segmentation']
        assert np.abs(np.subtract(found, outline)).max() < 1e-3
        corners = np.array(outline).reshape(-1, 2)
        x, y, width, height = annotation['bbox']
        assert np.allclose([x, y], corners.min(0), atol=1e-3)
        assert np.allclose([x + width, y + height], corners.max(0), atol=2e-3)
        image = Image.new('L', (960, 960))
        ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners * 10], fill=1)
        assert annotation['area'] == pytest.approx(np.array(image).sum() / 100, rel=0.1, abs=3)


def test_lines_of_yolo(yolo):
    """Ignore confidences and keypoints, and clip boxes at the edge."""
    root, objects = yolo
    name, other, third = sorted(objects)[:3]
    lines = {
        name: '1 0.5 0.5 0.25 0.5 0.9\n\n',
        other: '2 0.5 0.5 0.25 0.5 0.1 0.1 2 0.2 0.2 2\n',
        third: '0.0 1e-1 0.5 0.25 0.5\n',
    }
    for image, text in lines.items():
        (root / image.replace('images', 'labels')).with_suffix('.txt').write_text(text)
    with (root / 'data.yaml').open('a') as file:
        file.write('kpt_shape: [2, 3]\n')
    conversion = convert('yolo', str(root), str(root / 'annotations'))
    remark = f'clipped 1 object at the edge of the image, such as one in {root / third}'
    assert remark in conversion.remarks
    content = read_json(root / 'annotations/val.json')
    ids = {image['file_name']: image['id'] for image in content['images']}
    found = {a['image_id']: (a['category_id'], a['bbox']) for a in content['annotations']}
    assert found[ids[name]] == (2, [36, 24, 24, 48])
    assert found[ids[other]] == (3, [36, 24, 24, 48])
    assert found[ids[third]] == (1, [0, 24, 21.6, 48])


def test_polygons_of_voc(voc):
    root, objects = voc
    path = next(iter((root / 'Annotations').iterdir()))
    outline = '<polygon>{}</polygon>'.format(
        ''.join(f'<x{i}>{x}</x{i}><y{i}>{y}</y{i}>' for i, (x, y) in enumerate(
            [(11, 21), (31, 21), (31, 61)], 1)))  # fmt: skip
    path.write_text(path.read_text().replace('</object>', f'{outline}</object>', 1))
    convert('voc', str(root), str(root / 'annotations'))
    masks = [
        a for a in read_json(root / 'annotations/all.json')['annotations'] if a['segmentation']
    ]
    assert [mask['segmentation'] for mask in masks] == [[[10, 20, 30, 20, 30, 60]]]
    assert masks[0]['area'] == 400


def test_a_rotated_photograph(tmp_path):
    """Apply fractions to the image after its EXIF rotation, as mmdet reads it."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new('RGB', (80, 40)).save(tmp_path / 'a.jpg', exif=exif)
    (tmp_path / 'a.txt').write_text('0 0.5 0.5 0.5 0.5')
    convert('yolo', str(tmp_path), str(tmp_path / 'out'), classes=['cat'])
    content = read_json(tmp_path / 'out/all.json')
    assert (content['images'][0]['width'], content['images'][0]['height']) == (40, 80)
    assert content['annotations'][0]['bbox'] == [10, 20, 20, 40]
    assert not check_set(str(tmp_path / 'out/all.json'), str(tmp_path)).problems


def image_sets(root, splits):
    (root / 'ImageSets/Main').mkdir(parents=True)
    for split, images in splits.items():
        text = ''.join(f'{image.stem}\n' for image in images)
        (root / f'ImageSets/Main/{split}.txt').write_text(text)
    # VOC also ships a list per class, with a second column
    (root / 'ImageSets/Main/circle_train.txt').write_text('no_such_file -1\n')


VOC_LAYOUTS = {
    'ImageSets': ('JPEGImages', 'Annotations', 'JPEGImages', 'Annotations'),
    'folders': ('train', 'train', 'valid', 'valid'),
    'folders of folders': (
        'train/images', 'train/annotations', 'val/images', 'val/annotations'),
    'parallel folders': (
        'images/train', 'annotations/train', 'images/val', 'annotations/val'),
}  # fmt: skip


@pytest.mark.parametrize('layout', VOC_LAYOUTS)
def test_layouts_of_voc(tmp_path, shapes_root, layout):
    images, labels, val_images, val_labels = VOC_LAYOUTS[layout]
    root = tmp_path / 'dataset'
    train = write_split('voc', root, shapes_root, images, labels, 'train')
    val = write_split('voc', root, shapes_root, val_images, val_labels, 'val')
    if layout == 'ImageSets':
        image_sets(root, dict(train=map(Path, train), val=map(Path, val)))
    conversion = convert('voc', str(root), str(tmp_path / 'out'))
    assert sorted(file.path.name for file in conversion.written) == ['train.json', 'val.json']
    check_content(tmp_path / 'out/train.json', root, train)
    check_content(tmp_path / 'out/val.json', root, val)


def listed(root, images):
    for split, names in images.items():
        (root / f'{split}.txt').write_text(''.join(f'./{name}\n' for name in names))
    return 'train: train.txt\nval: val.txt\n'


YOLO_LAYOUTS = {
    'images and labels': (
        'images/train', 'labels/train', 'images/val', 'labels/val',
        lambda *_: 'path: ../datasets/elsewhere\ntrain: images/train\nval: images/val\ntest: x\n'),
    'exports with wrong paths': (
        'train/images', 'train/labels', 'valid/images', 'valid/labels',
        lambda *_: 'train: ../train/images\nval: ../valid/images\n'),
    'lists of images': (
        'images/a', 'labels/a', 'images/b', 'labels/b', listed),
    'folders without settings': (
        'train/images', 'train/labels', 'valid/images', 'valid/labels', None),
    'labels beside the images': ('train', 'train', 'val', 'val', None),
}  # fmt: skip


@pytest.mark.parametrize('layout', YOLO_LAYOUTS)
def test_layouts_of_yolo(tmp_path, shapes_root, layout):
    images, labels, val_images, val_labels, settings = YOLO_LAYOUTS[layout]
    root = tmp_path / 'dataset'
    train = write_split('yolo', root, shapes_root, images, labels, 'train')
    val = write_split('yolo', root, shapes_root, val_images, val_labels, 'val')
    if settings:
        names = ''.join(f'  {i}: {name}\n' for i, name in enumerate(CLASSES))
        text = f'names:\n{names}{settings(root, dict(train=train, val=val))}'
        (root / 'data.yaml').write_text(text)
    else:
        (root / 'obj.names').write_text('\n'.join(CLASSES))
    conversion = convert('yolo', str(root), str(tmp_path / 'out'))
    assert sorted(file.path.name for file in conversion.written) == ['train.json', 'val.json']
    check_content(tmp_path / 'out/train.json', root, train)
    check_content(tmp_path / 'out/val.json', root, val)


def test_files_of_any_case_link_and_encoding(tmp_path, shapes_root):
    """Follow links but no loops, ignore case, and read texts with a byte order mark."""
    root, elsewhere = tmp_path / 'dataset', tmp_path / 'elsewhere'
    objects = write_split('yolo', elsewhere, shapes_root, 'Images', 'LABELS')
    for path in [*elsewhere.rglob('*.jpg'), *elsewhere.rglob('*.txt')]:
        path.rename(path.with_suffix(path.suffix.upper()))
    for path in elsewhere.rglob('*.TXT'):
        path.write_bytes(path.read_text().replace('\n', '\r\n').encode('utf-8-sig'))
    root.mkdir()
    for folder in ('Images', 'LABELS'):
        (root / folder).symlink_to(elsewhere / folder)
    (elsewhere / 'Images' / 'loop').symlink_to(elsewhere / 'Images')
    (root / 'classes.txt').write_bytes('\r\n'.join(CLASSES).encode('utf-16'))
    convert('yolo', str(root), str(tmp_path / 'out'))
    upper = {name.replace('.jpg', '.JPG'): items for name, items in objects.items()}
    check_content(tmp_path / 'out/all.json', root, upper)


def test_validation_split_is_deterministic(tmp_path, shapes_root):
    root = tmp_path / 'dataset'
    objects = write_split('voc', root, shapes_root, 'JPEGImages', 'Annotations', 'train')
    (root / 'Annotations').rename(root / 'labels')
    names = []
    for _ in range(2):
        convert('voc', str(root), str(root / 'out'), val=0.25, force=True)
        files = {split: read_json(root / f'out/{split}.json') for split in ('train', 'val')}
        names.append({s: [i['file_name'] for i in c['images']] for s, c in files.items()})
    assert names[0] == names[1]
    assert names[0]['val']
    assert sorted(names[0]['train'] + names[0]['val']) == sorted(objects)
    assert [c['categories'] for c in files.values()][0] == files['val']['categories']


def test_an_image_without_text_file_has_no_objects(yolo):
    root, objects = yolo
    (root / 'labels/val' / 'lost.txt').write_text('0 .5 .5 .1 .1')
    sorted((root / 'labels/val').iterdir())[0].unlink()
    conversion = convert('yolo', str(root), str(root / 'annotations'))
    assert conversion.written[0].empty == 1
    assert conversion.remarks == (
        f'treated 1 image without a text file as without objects, such as {root}/{min(objects)}',
        f'ignored 1 text file without an image, such as {root}/labels/val/lost.txt',
    )
    assert len(read_json(root / 'annotations/val.json')['images']) == len(objects)


def test_an_image_without_xml_file_is_skipped_with_a_note(voc):
    """Skip the image with a note, which lists in ImageSets suppress."""
    root, objects = voc
    lost = sorted((root / 'JPEGImages').iterdir())[0]
    (root / 'Annotations' / f'{lost.stem}.xml').unlink()
    conversion = convert('voc', str(root), str(root / 'out'))
    remark = f'skipped 1 image without an XML file, such as {lost}'
    assert remark in conversion.remarks
    assert conversion.written[0].images == len(objects) - 1
    image_sets(root, dict(train=[Path(name) for name in objects if Path(name).name != lost.name]))
    assert remark not in convert('voc', str(root), str(root / 'out')).remarks


def test_order_of_the_classes_is_an_option(voc):
    root, _ = voc
    convert('voc', str(root), str(root / 'out'), classes=['ring', *CLASSES[::-1]])
    names = [category['name'] for category in read_json(root / 'out/all.json')['categories']]
    assert names == ['ring', *CLASSES[::-1]]


# Errors


def first_label(root):
    return sorted(path for path in root.rglob('*') if path.suffix in ('.xml', '.txt'))[0]


def substitute(old, new):
    def plant(root):
        path = first_label(root)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return plant


def rewrite(text):
    return lambda root: first_label(root).write_bytes(text)


def settings(text):
    return lambda root: (root / 'data.yaml').write_text(text)


def remove_first_image(root):
    next(iter(sorted((root / 'JPEGImages').iterdir()))).unlink()


def double_first_image(root):
    path = next(iter(sorted((root / 'JPEGImages').iterdir())))
    path.with_suffix('.png').write_bytes(path.read_bytes())


def break_first_image(root):
    next(path for path in sorted(root.rglob('*.jpg'))).write_bytes(b'nothing')


def remove_labels(root):
    for path in [*root.rglob('*.xml'), *root.rglob('*.txt')]:
        path.unlink()


def empty_labels(root):
    for path in root.rglob('*.txt'):
        path.write_text('')


VOC_FAULTS = {
    'no XML at all': (remove_labels, 'contains no XML file'),
    'broken XML': (rewrite(b'<annotation><obj'), 'it is not valid XML (unclosed token'),
    'another XML': (rewrite(b'<html></html>'), 'its root is <html> instead of <annotation>'),
    'no name': (
        rewrite(b'<annotation><object><name> </name></object></annotation>'),
        'object 1 has no <name>',
    ),
    'no box': (
        rewrite(b'<annotation><object><name>a</name></object></annotation>'),
        'object 1 (a) has no <bndbox>',
    ),
    'a coordinate missing': (
        rewrite(
            b'<annotation><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>'
            b'</annotation>'
        ),
        '<ymin> of object 1 (a) is None instead of a number',
    ),
    'a coordinate not a number': (substitute('<xmin>', '<xmin>x'), 'instead of a number'),
    'an empty box': (substitute('<xmin>', '<xmin>9'), 'is empty'),
    'another size': (substitute('<width>96', '<width>97'), 'it describes an image of 97x96 pixels'),
    'an outline of two points': (
        substitute('</object>', '<polygon><x1>1</x1><y1>2</y1></polygon></object>'),
        'has fewer than three points',
    ),
    'no image': (remove_first_image, 'its image {root}/JPEGImages/'),
    'two images': (
        double_first_image,
        '.png, one of which must be renamed or moved',
    ),
    'an image cut off': (break_first_image, 'cannot be read (not an image)'),
    'a list of missing files': (
        lambda root: image_sets(root, dict(train=[Path('nowhere')])),
        'nowhere.xml cannot be converted: its image',
    ),
}
YOLO_FAULTS = {
    'no text file at all': (remove_labels, 'images but no text file for them; pass'),
    'no object at all': (empty_labels, 'no label file in {root} contains an object'),
    'words': (
        rewrite(b'circle 0.5 0.5 0.1 0.1'),
        "line 1: 'circle 0.5 0.5 0.1 0.1' contains a word",
    ),
    'pixels': (rewrite(b'0 48 48 10 10'), 'line 1: 48 is not a fraction of the image'),
    'three numbers': (rewrite(b'0 0.5 0.5 0.1'), 'line 1: 3 numbers after the class'),
    'an odd polygon': (rewrite(b'0 .1 .1 .2 .2 .3 .3 .4'), 'line 1: 7 numbers after the class'),
    'an unknown class': (
        rewrite(b'0 .5 .5 .1 .1\n4 .5 .5 .1 .1'),
        'line 2: class 4 is not in 0 to 3',
    ),
    'a class between': (rewrite(b'0.5 .5 .5 .1 .1'), 'line 1: class 0.5 is not in'),
    'a box without width': (rewrite(b'0 .5 .5 0 .1'), 'line 1: the object has no width'),
    'not finite': (rewrite(b'0 .5 .5 nan .1'), 'contains a number that is not finite'),
    'no text': (rewrite(b'\xff\xfe\x00'), 'it is not readable as UTF-8 text'),
    'no names': (settings('val: images/val'), 'does not list its classes'),
    'names of another kind': (settings('names: 3'), "'names' in {root}/data.yaml is not valid"),
    'names with a gap': (settings('names: {0: a, 2: b}'), 'write a list of classes, or a mapping'),
    'broken settings': (settings('names: ['), 'data.yaml is not valid YAML'),
    'settings of another kind': (settings('- a'), 'contains no keys'),
    'a missing split': (
        settings('names: [a]\ntrain: images/train'),
        "'train' in {root}/data.yaml is 'images/train', which does not exist",
    ),
    'keypoints of another kind': (
        settings('names: [a]\nkpt_shape: many'),
        "kpt_shape in {root}/data.yaml is 'many'",
    ),
    'several settings': (
        lambda root: (
            [(root / f'{name}.yaml').write_text('names: [a]') for name in 'ab']
            and (root / 'data.yaml').unlink()
        ),
        'contains several YAML files (a.yaml, b.yaml)',
    ),
    'an image cut off': (break_first_image, 'cannot be read (not an image)'),
}


@pytest.mark.parametrize(
    ('kind', 'fault'), [('voc', fault) for fault in VOC_FAULTS] + [('yolo', f) for f in YOLO_FAULTS]
)
def test_one_fault(request, tmp_path, kind, fault):
    root, _ = request.getfixturevalue(kind)
    plant, words = (VOC_FAULTS if kind == 'voc' else YOLO_FAULTS)[fault]
    plant(root)
    before = files_below(tmp_path)
    code = dsnet_mm_ends('convert-data', kind, root, tmp_path / 'out')
    assert code.startswith('error: ')
    assert words.format(root=root) in code
    assert str(root) in code or '--classes' in code
    assert ';' in code
    assert '\n' not in code
    assert files_below(tmp_path) == before
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('skip', [False, True])
def test_all_faults_are_listed_at_once(monkeypatch, capsys, voc, skip):
    root, _ = voc
    labels = sorted(root.rglob('*.xml'))[:3]
    for path in labels:
        path.write_text('<html/>')
    monkeypatch.setattr('dsnet_mm.data.converting.dataset_conversion.MOST_SHOWN', 2)
    text = dsnet_mm_ends('convert-data', 'voc', root, root / 'out', *['--skip'] * skip)
    text = capsys.readouterr().out if skip else text
    assert [str(path) in text for path in labels] == [True, True, False]
    assert 'and 1 more' in text


def test_skip_ignores_faulty_images(capsys, voc):
    root, objects = voc
    path = first_label(root)
    path.write_text('<html/>')
    assert dsnet_mm_ends('convert-data', 'voc', root, root / 'out', '--skip') == 0
    assert f'skipped {path}: ' in capsys.readouterr().out
    assert len(read_json(root / 'out/all.json')['images']) == len(objects) - 1


def test_bad_arguments(voc):
    root, _ = voc
    (root / 'file').write_text('')
    (root / 'out').mkdir()
    (root / 'out/all.json').write_text('of the user')
    before = files_below(root)
    target = root / 'new'
    cases = [
        (['voc', root / 'no', target], 'no is not a folder; pass the folder of the dataset'),
        (
            ['voc', root, root / 'out'],
            'all.json already exists; choose another folder or pass --force',
        ),
        (
            ['voc', root, root / 'file'],
            'file is not a folder; pass a folder for the annotation files',
        ),
        (['voc', root, root / 'x.json'], 'x.json is not a folder'),
        (['voc', root, root / 'file/below'], 'file is not a folder; choose another'),
        (['voc', root, target, '--val', 1], '--val is 1 but must be at least 0 and below 1'),
        (['voc', root, target, '--classes', 'a', 'a'], '--classes repeats a class'),
        (['voc', root, target, '--classes', 'a'], 'is missing in --classes'),
    ]
    for args, words in cases:
        code = dsnet_mm_ends('convert-data', *args)
        assert isinstance(code, str), args
        assert code.startswith('error: ')
        assert words in code
        assert '\n' not in code
    assert files_below(root) == before
    assert dsnet_mm_ends('convert-data', 'voc', root, root / 'out', '--force') == 0
    assert read_json(root / 'out/all.json')['images']


def test_val_twice_is_refused(yolo):
    root, _ = yolo
    code = dsnet_mm_ends('convert-data', 'yolo', root, root / 'out', '--val', 0.2)
    assert code.startswith(f'error: {root} already has a validation split; omit --val')


@pytest.mark.slow
def test_the_command(yolo):
    """Check exit status, one sentence and no traceback in a process of its own."""
    root, _ = yolo
    rewrite(b'9 1 1 1 1')(root)
    done = run_command('convert-data', 'yolo', root, root / 'new')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in done.stderr
