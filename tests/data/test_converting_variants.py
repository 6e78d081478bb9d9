"""Test datasets as people and their tools leave them: nothing is lost or guessed silently."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from dsnet_mm.data.converting.dataset_conversion import convert
from dsnet_mm.errors import UserError
from helpers.datasets import read_json

CUP, KEY = '0 0.5 0.5 0.4 0.4\n', '1 0.25 0.5 0.2 0.2\n'
CUP_XML = (
    '<object><name>cup</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax>'
    '</bndbox></object>'
)
NO_BOX = CUP_XML.replace('<xmax>20', '<xmax>5')


def tree(root, files):
    """Write files by name: images for None, bytes, or text."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new('RGB', (40, 30), (sum(name.encode()) % 255, 9, 9)).save(
                path, Image.registered_extensions()[path.suffix.lower()]
            )
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding='utf-8')
    return root


def xml(name, objects=CUP_XML):
    return f'<annotation><filename>{name}</filename>{objects}</annotation>'


@pytest.fixture
def converted(tmp_path):
    """Return a function that converts files to {split: {file name: class names}} and remarks."""

    def run(kind, files, **options):
        root = tree(tmp_path / 'set', files)
        out = tmp_path / 'out'
        conversion = convert(kind, str(root), str(out), force=True, **options)
        found = {}
        for written in conversion.written:
            content = read_json(written.path)
            names = {category['id']: category['name'] for category in content['categories']}
            images = {image['id']: image['file_name'] for image in content['images']}
            found[written.path.stem] = {name: [] for name in images.values()}
            for item in content['annotations']:
                name = images[item['image_id']]
                found[written.path.stem][name].append(names[item['category_id']])
        return found, '\n'.join(conversion.remarks)

    return run


@pytest.fixture
def refused(tmp_path):
    """Return a function that returns the error sentence of a conversion."""

    def run(kind, files, **options):
        root = tree(tmp_path / 'set', files)
        with pytest.raises(UserError) as error:
            convert(kind, str(root), str(tmp_path / 'out'), **options)
        assert not (tmp_path / 'out').exists()
        assert '\n' not in str(error.value)
        return str(error.value).replace(str(root), 'ROOT')

    return run


# Class lists

PAIR = {'train/a.jpg': None, 'train/a.txt': CUP, 'val/b.jpg': None, 'val/b.txt': CUP}
DISAGREEING = {
    'another order': ('train/classes.txt', 'cup\nkey\npen', 'val/classes.txt', 'pen\ncup\nkey'),
    'another suffix': ('classes.txt', 'cup\nkey', 'obj.names', 'key\ncup'),
    'YAML and text': ('data.yaml', 'names: [cup, key]', 'val/classes.txt', 'key\ncup'),
    'YAML below': ('classes.txt', 'cup\nkey', 'export/data.yaml', 'names: {0: key, 1: cup}'),
    'LabelImg': ('classes.txt', 'cup\nkey', 'data/predefined_classes.txt', 'dog\ncup\nkey'),
    'capitals': ('classes.txt', 'cup\nkey', 'val/Classes.TXT', 'Cup\nkey'),
    'one more': ('train/classes.txt', 'cup\nkey', 'val/classes.txt', 'cup\nkey\npen'),
    'UTF-16': ('classes.txt', 'cup\nkey', 'val/labels.txt', 'key\ncup'.encode('utf-16')),
}


@pytest.mark.parametrize('case', DISAGREEING)
def test_class_lists_that_disagree(refused, converted, case):
    one, first, two, second = DISAGREEING[case]
    sentence = refused('yolo', {**PAIR, one: first, two: second})
    assert f'ROOT/{one}' in sentence
    assert f'ROOT/{two}' in sentence
    assert ' disagree about class ' in sentence
    found, remarks = converted('yolo', PAIR, classes=['spoon', 'fork', 'pan'])
    assert found['val'] == {'val/b.jpg': ['spoon']}
    assert 'note' not in remarks
    assert '--classes replaces the classes in ' in remarks


def test_class_lists_that_agree(converted):
    """The encodings and line ends differ; quotes, blanks and numbers are kept as text."""
    names = ['traffic light', 'no', '1', 'Köln']
    files = {
        'train/classes.txt': '\r\n'.join([*names, '', '']).encode('utf-16'),
        'val/classes.txt': '\r'.join(f' {name}\t' for name in names).encode('utf-8-sig'),
        'obj.names': '"traffic light"\n"no"\n"1"\n"Köln"\n',
        'data.yaml': '\ufeffnames:\r\n  0: traffic light  # red\r\n  1: no\r\n  2: 1\r\n'
        "  3: 'Köln'\r\nnc: 4\r\n",
        'empty/classes.txt': '\n',
    }
    found, remarks = converted('yolo', {**PAIR, **files, 'val/b.txt': CUP.replace('0 ', '1 ', 1)})
    assert found == {'train': {'train/a.jpg': ['traffic light']}, 'val': {'val/b.jpg': ['no']}}
    assert 'classes in' not in remarks


ONE = {'a.jpg': None, 'a.txt': CUP}
BAD_LISTS = {
    'a class twice': ({'classes.txt': 'cup\ncup'}, "lists the class 'cup' twice, as 0 and 1"),
    'twice in YAML': ({'data.yaml': 'names: [cup, cup]'}, "lists the class 'cup' twice"),
    'an empty name': ({'data.yaml': "names: [cup, '']"}, 'class 1 in ROOT/data.yaml has no name'),
    'another number': (
        {'data.yaml': 'names: [cup]\nnc: 2'},
        "'nc' in ROOT/data.yaml is 2, but 1 class are listed",
    ),
    'another number of Darknet': (
        {'obj.names': 'cup\nkey', 'obj.data': 'classes=3\nnames=data/obj.names'},
        "'classes' in ROOT/obj.data is 3, but 2 classes are listed (cup, key)",
    ),
    'Latin-1': (
        {'classes.txt': 'Köln'.encode('latin-1')},
        'ROOT/classes.txt cannot be read as text in UTF-8 (byte 0xf6 in line 1), perhaps',
    ),
    'UTF-16 without a mark': ({'classes.txt': 'cup'.encode('utf-16-le')}, 'holds null bytes'),
}


@pytest.mark.parametrize('case', BAD_LISTS)
def test_bad_class_lists(refused, case):
    files, words = BAD_LISTS[case]
    assert words in refused('yolo', {**ONE, **files})


def test_lines_that_class_lists_ignore(converted):
    files = {**ONE, 'a.txt': KEY, 'classes.txt': '# my classes\ncup\n\nkey\n'}
    found, remarks = converted('yolo', files)
    assert found == {'all': {'a.jpg': ['key']}}
    assert 'ignored 1 comment in ' in remarks
    assert 'ignored 1 empty line between the classes in ' in remarks


# Links


def test_links_to_folders_and_files(converted, tmp_path):
    """Links in a cycle end, and an image behind two links is used once."""
    disk = tree(tmp_path / 'disk', {'x/p.jpg': None, 'y/q.jpg': None, 'far/r.jpg': None,
                                    'far/r.txt': KEY})  # fmt: skip
    root = tmp_path / 'set'
    (root / 'images').mkdir(parents=True)
    for link, target in {
        root / 'images/train': disk / 'x',
        root / 'images/val': disk / 'y',
        root / 'images/again': root / 'images',
        root / 'photos': disk / 'x',
        disk / 'x/to_y': disk / 'y',
        disk / 'y/to_x': disk / 'x',
        root / 'images/r.jpg': disk / 'far/r.jpg',
    }.items():
        os.symlink(target, link)
    files = {'labels/train/p.txt': CUP, 'labels/val/q.txt': KEY, 'classes.txt': 'cup\nkey'}
    found, remarks = converted('yolo', files)
    assert found['train']['images/train/p.jpg'] == ['cup']
    assert found['val']['images/val/q.jpg'] == ['key']
    assert found['all']['images/r.jpg'] == ['key']  # the label file is beside the target
    assert 'of the image' not in remarks
    assert 'are in several splits' in remarks


def test_links_in_voc(converted, tmp_path):
    disk = tree(tmp_path / 'disk', {'p.jpg': None, 'xml/p.xml': xml('p.jpg')})
    root = tmp_path / 'set'
    root.mkdir()
    os.symlink(disk / 'xml', root / 'Annotations')
    (root / 'JPEGImages').mkdir()
    os.symlink(disk / 'p.jpg', root / 'JPEGImages/p.jpg')
    assert converted('voc', {})[0] == {'all': {'JPEGImages/p.jpg': ['cup']}}


def test_links_that_lead_nowhere(refused, tmp_path):
    root = tree(tmp_path / 'set', {**ONE, 'classes.txt': 'cup'})
    os.symlink('/no/such/disk', root / 'images')
    assert 'ROOT/images is a symbolic link to /no/such/disk, which does not exist' in refused(
        'yolo', {}
    )
    (root / 'images').unlink()
    os.symlink('/no/such/image.jpg', root / 'b.jpg')
    assert 'its image ROOT/b.jpg is missing' in refused('yolo', {})


# Splits

NAMES = {'obj.names': 'cup\nkey'}
IMAGES = {'i/a.png': None, 'i/a.txt': CUP, 'i/b.png': None, 'i/b.txt': KEY}
SPLIT = {'train': {'i/a.png': ['cup']}, 'val': {'i/b.png': ['key']}}
YOLO_SPLITS = {
    'obj.data': {
        'obj.data': 'classes = 2 # two\ntrain = data/train.txt\nvalid = data/valid.txt\n'
        'names = data/obj.names\nbackup = backup/\n',
        'train.txt': 'data/i/a.png\n',
        'valid.txt': 'data/i/b.png\n',
    },
    'obj.data of any name with a mark': {
        'cfg/My.DATA': '\ufefftrain=build/darknet/x64/data/Train.txt\r\nvalid=C:\\d\\val.list.txt',
        'Train.txt': 'i/a.png',
        'val.list.txt': b'\xff\xfe' + 'C:\\set\\i\\b.png\r\n'.encode('utf-16-le'),
    },
    'other cases': {'train.txt': 'I/A.PNG', 'val.txt': 'data\\I\\B.PNG'},
    'lists alone': {'Train.TXT': '# mine\n./i/a.png\r\n', 'Validation.txt': '"i/b.png"'},
    'YAML with lists': {'data.yaml': 'names: [cup, key]\ntrain: t.txt\nval: [v.txt]\ntest:\n',
                        't.txt': 'i/a.png', 'v.txt': '\ufeffi/b.png  \n'},
    'YAML with images': {'data.yaml': 'names: [cup, key]\nTrain: i/a.png\nvalidation: i/b.png'},
    'YAML below': {'cfg/data.yaml': 'names: [cup, key]\npath: ..\ntrain: t.txt\nval: v.txt',
                   't.txt': 'i/a.png', 'v.txt': 'i/b.png'},
}  # fmt: skip


@pytest.mark.parametrize('case', YOLO_SPLITS)
def test_lists_of_splits_of_yolo(converted, case):
    found, remarks = converted('yolo', {**NAMES, **IMAGES, **YOLO_SPLITS[case]})
    assert found == SPLIT
    assert 'joined' not in remarks
    assert 'text file' not in remarks


FOLDERS = {
    'images/Train/a.png': None, 'labels/train/a.txt': CUP,
    'images/Validation/b.png': None, 'labels/validation/b.TXT': KEY,
}  # fmt: skip
PATHS = {
    'other cases': 'TRAIN: Images/train\nval: IMAGES/VALIDATION/',
    'relative': 'train: images/Train\nval: images/Validation',
    'a folder above': 'train: ../images/Train\nval: ../images/Validation',
    'another machine': 'path: /content/set\ntrain: /content/set/images/Train\n'
    'val: images/Validation',
    'Windows': 'train: images\\Train\nval: "C:\\new\\set\\images\\Validation"',
    'lists and slashes': 'train: [images/Train/]\nval:\n- ./images/Validation\ntest: null',
    'no val': 'train: images/Train\nval:',
    'no test folder': 'train: images/Train\nval: images/Validation\ntest: images/test',
}


@pytest.mark.parametrize('case', PATHS)
def test_paths_in_yaml(converted, case):
    files = {**FOLDERS, 'data.yaml': f'names: [cup, key]\n{PATHS[case]}\n'}
    found, remarks = converted('yolo', files)
    assert found['train'] == {'images/Train/a.png': ['cup']}
    if case == 'no val':
        assert 'val' not in found
        assert 'left out 1 image outside the splits' in remarks
        return
    assert found['val'] == {'images/Validation/b.png': ['key']}
    assert ('is written' in remarks) == (case == 'no test folder')
    quirks = ('a folder above', 'another machine', 'Windows', 'other cases')
    assert ("read 'train: " in remarks) == (case in quirks)


def test_absolute_paths_in_yaml(converted, tmp_path):
    root = tmp_path / 'set'
    text = f'names: [cup, key]\ntrain: {root}/images/Train\nval: {root}/images/Validation'
    found, remarks = converted('yolo', {**FOLDERS, 'data.yaml': text})
    assert found['val'] == {'images/Validation/b.png': ['key']}
    assert 'read ' not in remarks


def test_paths_that_could_mean_two_places(refused, tmp_path):
    tree(tmp_path, {'train/images/z.png': None})
    files = {'train/images/a.png': None, 'train/labels/a.txt': CUP,
             'data.yaml': 'names: [cup]\ntrain: ../train/images'}  # fmt: skip
    assert 'ROOT/train/images; write the path relative to this file' in refused('yolo', files)
    files = {**NAMES, 'x.png': None, 'x.txt': CUP, 'train.txt': 'one/x.png\ntwo/x.png'}
    (tmp_path / 'set/data.yaml').unlink()
    assert "'one/x.png' and 'two/x.png' in ROOT/train.txt both lead to" in refused('yolo', files)


def test_a_missing_split_folder_is_no_other_folder(refused):
    files = {**ONE, 'images/a.jpg': None, 'images/a.txt': CUP,
             'data.yaml': 'names: [cup]\ntrain: /x/train/images'}  # fmt: skip
    assert "'train' in ROOT/data.yaml is '/x/train/images', which does not exist" in refused(
        'yolo', files
    )
    assert 'leads to no image' in refused('yolo', {
        **ONE, 'none/x': 'y', 'data.yaml': 'names: [cup]\ntrain: none'})  # fmt: skip


def test_joined_splits_and_shared_images(converted):
    files = {
        'day/train/a.png': None, 'day/train/a.txt': CUP,
        'night/Training/b.png': None, 'night/Training/b.txt': KEY,
        'more/c.png': None, 'more/c.txt': KEY,
        **NAMES,
    }  # fmt: skip
    found, remarks = converted('yolo', files)
    assert set(found) == {'train', 'all'}
    assert 'night/Training to one split, train.json' in remarks
    assert 'wrote 1 file to all.json, because no folder of them is named after a split' in remarks
    lists = {'train.txt': 'more/c.png\nmore/c.png\nday/train/a.png', 'val.txt': 'more/c.png'}
    found, remarks = converted('yolo', lists)
    assert found['train'] == {'more/c.png': ['key'], 'day/train/a.png': ['cup']}
    assert 'used 1 image of train once' in remarks
    assert '1 image is in several splits (train, val)' in remarks
    assert 'left out 1 image outside the splits' in remarks


def test_names_of_folders_that_contain_a_split(converted):
    files = {'obj_train_data/a.png': None, 'obj_train_data/a.txt': CUP,
             'obj_valid_data/b.png': None, 'obj_valid_data/b.txt': KEY, **NAMES}  # fmt: skip
    assert set(converted('yolo', files)[0]) == {'train', 'val'}


def test_splits_of_the_other_files(converted):
    """Only folders of labels in YOLO, or of images in VOC, are named after splits."""
    files = {'images/a.png': None, 'labels/train/a.txt': CUP,
             'images/b.png': None, 'labels/val/b.txt': KEY, **NAMES}  # fmt: skip
    found, _ = converted('yolo', files)
    assert found == {'train': {'images/a.png': ['cup']}, 'val': {'images/b.png': ['key']}}
    files = {'JPEGImages/train/c.png': None, 'xml/c.xml': xml('c.png'),
             'JPEGImages/val/d.png': None, 'xml/d.xml': xml('d.png')}  # fmt: skip
    found, _ = converted('voc', files)
    assert list(found) == ['train', 'val']
    assert found['val'] == {'JPEGImages/val/d.png': ['cup']}


def test_other_lists_are_named(converted):
    files = {**IMAGES, 'train.txt': 'i/b.png', 'obj.data': 'train=train.txt',
             'data.yaml': 'names: [cup, key]\ntrain: t.txt\nval: v.txt',
             't.txt': 'i/a.png', 'v.txt': 'i/b.png'}  # fmt: skip
    found, remarks = converted('yolo', files)
    assert found == SPLIT
    assert 'ignored 2 other files with splits, such as ' in remarks


def test_val_divides_trainval(converted):
    files = {**VOC, 'ImageSets/Main/trainval.txt': 'a\nb', 'ImageSets/Main/test.txt': 'c'}
    found, _ = converted('voc', files, val=0.5)
    assert {split: len(images) for split, images in found.items()} == dict(train=1, val=1, test=1)


def test_one_folder_that_contains_a_split_is_none(converted):
    files = {'train_station/a.png': None, 'train_station/a.txt': CUP, **NAMES}
    assert set(converted('yolo', files)[0]) == {'all'}


VOC = {f'JPEGImages/{n}.jpg': None for n in 'abc'} | {
    f'Annotations/{n}.xml': xml(f'{n}.jpg') for n in 'abc'
}
VOC_LISTS = {
    'other words': {'ImageSets/Main/Train.txt': 'a\nb', 'ImageSets/Main/Validation.txt': 'c'},
    'file names': {'imagesets/main/training.TXT': 'a.jpg\nJPEGImages/b.jpg',
                   'imagesets/main/valid.txt': 'Annotations\\c.xml'},
    'flags': {'ImageSets/Main/train.txt': 'a  1\nb -1\n', 'ImageSets/Main/val.txt': 'c 0'},
    'lists of a class': {'ImageSets/Main/train.txt': 'a\nb', 'ImageSets/Main/val.txt': 'c',
                         'ImageSets/Main/cup_train.txt': 'c -1', 'ImageSets/Main/cup_val.txt': ''},
    'segmentation': {'ImageSets/Segmentation/train.txt': 'a\nb',
                     'ImageSets/Segmentation/val.txt': 'c'},
    'layout': {'ImageSets/Layout/train.txt': 'a 1\nb 1', 'ImageSets/Layout/val.txt': 'c 1'},
    'no folder': {'ImageSets/train.txt': 'a\nb', 'ImageSets/val.txt': 'c'},
    'top': {'train.txt': 'a\nb', 'val.txt': 'c'},
    'other cases': {'ImageSets/Main/train.txt': 'A\nB.JPG', 'ImageSets/Main/val.txt': 'C'},
    'encodings': {'ImageSets/Main/train.txt': b'\xef\xbb\xbfa\r\nb\r\n',
                  'ImageSets/Main/val.txt': 'c\r\n\r\n'.encode('utf-16')},
}  # fmt: skip


@pytest.mark.parametrize('case', VOC_LISTS)
def test_lists_of_splits_of_voc(converted, case):
    found, remarks = converted('voc', {**VOC, **VOC_LISTS[case]})
    assert {split: ''.join(name[-5] for name in found[split]) for split in found} == {
        'train': 'ab', 'val': 'c'}  # fmt: skip
    assert 'joined' not in remarks
    assert 'ignored' not in remarks


def test_lists_without_a_split(converted):
    files = {**VOC, 'ImageSets/Main/cup_train.txt': 'a 1'}
    found, remarks = converted('voc', files)
    assert set(found) == {'all'}
    assert 'ignored 1 list not named after a split, such as ' in remarks
    found, remarks = converted('voc', {'ImageSets/Main/train.txt': 'a\nb'})
    assert 'left out 1 XML file that no list names' in remarks


def test_names_with_blanks_in_voc(converted):
    files = {'JPEGImages/my photo 1.jpg': None, 'Annotations/my photo 1.xml': xml('my photo 1.jpg'),
             'ImageSets/Main/train.txt': 'my photo 1',
             'ImageSets/Main/val.txt': 'my photo 1 -1'}  # fmt: skip
    image = {'JPEGImages/my photo 1.jpg': ['cup']}
    assert converted('voc', files)[0] == {'train': image, 'val': image}


# Places

PLACES = {
    'annots': ('annots/00001.xml', 'images/00001.jpg', '00001.jpg'),
    'folders of any name': ('my labels/1.xml', 'my photos/1.JPG', '1.jpg'),
    'the file name': ('xml/a.xml', 'pictures/b.png', 'b.png'),
    'a path of Windows': ('xml/a.xml', 'pictures/b.png', 'C:\\Users\\me\\b.png'),
    'a path': ('xml/a.xml', 'pictures/b.png', '/home/me/b.png'),
    'no suffix': ('xml/a.xml', 'pictures/b.png', 'b'),
    'folders below': ('Annotation/a.xml', 'photos/day 1/a.jpg', 'a.jpg'),
    'parallel folders': ('train/boxes/a.xml', 'train/photos/a.jpg', 'a.jpg'),
    'above': ('annots/a.xml', 'a.jpg', 'a.jpg'),
    'no file name': ('boxes/a.xml', 'photos/a.jpg', ''),
}


@pytest.mark.parametrize('case', PLACES)
def test_places_of_voc_images(converted, case):
    label, image, name = PLACES[case]
    found, remarks = converted('voc', {label: xml(name), image: None})
    assert list(found.values()) == [{image: ['cup']}]
    assert 'another <filename>' not in remarks or case.startswith(('the', 'a path', 'no suffix'))


def test_an_xml_file_with_an_old_file_name(converted):
    """The name of the XML file counts, with a note."""
    files = {'a.xml': xml('old.jpg'), 'a.jpg': None, 'b.xml': xml('a.jpg'), 'b.jpg': None}
    found, remarks = converted('voc', files)
    assert found == {'all': {'a.jpg': ['cup'], 'b.jpg': ['cup']}}
    assert 'for 2 XML files with another <filename>, such as ' in remarks


def test_images_of_another_split_are_not_found(refused):
    files = {'boxes/val/a.xml': xml('a.jpg'), 'photos/train/a.jpg': None}
    assert 'is missing' in refused('voc', files)


def test_xml_files_with_equal_names(converted):
    """Each is matched with the image in the parallel folder."""
    files = {
        f'{folder}/{day}/1.{suffix}': xml('1.jpg') if suffix == 'xml' else None
        for day in ('day1', 'day2')
        for folder, suffix in (('photos', 'jpg'), ('boxes', 'xml'))
    }
    found, remarks = converted('voc', files)
    assert found == {'all': {'photos/day1/1.jpg': ['cup'], 'photos/day2/1.jpg': ['cup']}}
    assert 'found the images of 2 XML files by name in other folders, such as ' in remarks


def test_an_ambiguous_image_of_voc(refused):
    files = {'boxes/a.xml': xml('a.jpg'), 'x/y/a.jpg': None, 'z/w/a.jpg': None}
    assert 'it may belong to ROOT/x/y/a.jpg or to ROOT/z/w/a.jpg' in refused('voc', files)
    files = {'boxes/a.xml': xml('b.jpg'), 'boxes/a.jpg': None, 'boxes/b.jpg': None}
    assert 'it may belong to ROOT/boxes/a.jpg or to ROOT/boxes/b.jpg, which it names' in refused(
        'voc', files
    )


YOLO_PLACES = {
    'Images and Labels': ('Images/a.JPG', 'Labels/a.TXT'),
    'labels of any name': ('photos/a.jpg', 'yolo/a.txt'),
    'folders below': ('photos/x/a.jpg', 'annotations/y/a.txt'),
    'other cases': ('Images/IMG_1.JPG', 'labels/img_1.txt'),
    'two kinds of labels': ('images/a.jpg', 'labels/a.txt', 'annotations/a.txt'),
    'beside': ('photos/a.jpg', 'photos/a.Txt'),
    'labels within': ('photos/a.jpg', 'photos/labels/a.txt'),
}


@pytest.mark.parametrize('case', YOLO_PLACES)
def test_places_of_yolo_labels(converted, case):
    image, label, *others = YOLO_PLACES[case]
    files = dict.fromkeys(others, '684,8,273,116,0,0,0,0')
    found, _ = converted('yolo', {image: None, label: CUP, **NAMES, **files})
    assert found == {'all': {image: ['cup']}}


def test_labels_of_another_image_are_not_taken(converted):
    files = {'day1/1.jpg': None, 'day1/1.txt': CUP, 'day2/1.jpg': None, **NAMES}
    found, remarks = converted('yolo', files)
    assert found == {'all': {'day1/1.jpg': ['cup'], 'day2/1.jpg': []}}
    assert 'treated 1 image without a text file as without objects, such as ' in remarks
    files = {'photos/x/2.jpg': None, 'photos/y/2.jpg': None, 'boxes/x/2.txt': KEY}
    found, _ = converted('yolo', files)
    assert found['all']['photos/x/2.jpg'] == ['key']
    assert found['all']['photos/y/2.jpg'] == []


def test_labels_that_fit_several_images(refused):
    files = {**NAMES, 'images/a.jpg': None, 'images/a.png': None, 'labels/a.txt': CUP}
    sentence = refused('yolo', files)
    assert 'it may belong to ROOT/images/a.jpg or to ROOT/images/a.png' in sentence
    files = {'images/b.jpg': None, 'images/b.txt': CUP, 'labels/b.txt': KEY}
    assert 'ROOT/images/b.txt has other labels for ROOT/images/b.jpg' in refused('yolo', files)
    files = {'x/c.jpg': None, 'y/c.jpg': None, 'z/c.txt': CUP}
    sentence = refused('yolo', files)
    assert (
        'ROOT/z/c.txt cannot be converted: it may belong to ROOT/x/c.jpg or to ROOT/y' in sentence
    )
    files = {'x/y/d.jpg': None, 'z/w/d.txt': CUP, 'u/v/d.txt': KEY}
    assert 'ROOT/z/w/d.txt may hold the labels of ROOT/x/y/d.jpg too' in refused('yolo', files)


@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_unknown_layouts_list_the_known_ones(refused, kind):
    sentence = refused(kind, {'a.jpg': None, 'all.csv': 'a,1,2,3,4'})
    assert 'splits ' in sentence
    assert 'as folders train, val and test' in sentence


# Files and objects


def test_counts_of_yolo(converted):
    files = {
        **NAMES,
        'images/a.jpg': None,
        'labels/a.txt': CUP * 3 + '\n' + KEY + '0 .50 0.5 0.400 .4  # cup\n\n',
        'images/b.jpg': None,
        'labels/lost.txt': CUP,
        'labels/val/gone.txt': CUP, 'notes.txt': 'buy milk', 'requirements.txt': 'numpy',
    }  # fmt: skip
    found, remarks = converted('yolo', files)
    assert found == {'all': {'images/a.jpg': ['cup', 'key'], 'images/b.jpg': []}}
    assert 'removed 3 doubled objects with the same class and box from 1 image' in remarks
    assert 'ignored 1 empty line in text files, such as ' in remarks
    assert 'ignored 2 text files without an image, such as ' in remarks
    assert 'treated 1 image without a text file as without objects, such as ' in remarks


def test_counts_of_voc(converted):
    difficult = CUP_XML.replace('<bndbox>', '<difficult>1</difficult><bndbox>')
    files = {**VOC, 'Annotations/a.xml': xml('a.jpg', difficult + CUP_XML + CUP_XML),
             'JPEGImages/d.jpg': None, 'elsewhere/e.jpg': None}  # fmt: skip
    found, remarks = converted('voc', files)
    assert found['all']['JPEGImages/a.jpg'] == ['cup']
    assert 'removed 2 doubled objects with the same class and box from 1 image' in remarks
    assert 'skipped 2 images without an XML file, such as ' in remarks


def test_files_of_other_programs_are_no_images(converted):
    files = {**ONE, **NAMES, '._a.jpg': b'?', '__MACOSX/._a.txt': b'\0', '__MACOSX/b.jpg': b'?',
             '.ipynb_checkpoints/a-checkpoint.jpg': None, 'c.jfif': None, 'c.txt': KEY}  # fmt: skip
    found, remarks = converted('yolo', files)
    assert found == {'all': {'a.jpg': ['cup'], 'c.jfif': ['key']}}
    assert not remarks


def test_skip_drops_objects_and_keeps_images(converted, refused):
    files = {
        **NAMES,
        'a.jpg': None, 'a.txt': CUP + '0 0.5 0.5 0 0.1\n9 .5 .5 .1 .1\n',
        'b.jpg': None, 'b.txt': '0 0.5 0.5 0 0.1\n',
        'c.jpg': b'no image', 'c.txt': CUP,
        'd.jpg': None, 'd.txt': 'Köln'.encode('latin-1'),
    }  # fmt: skip
    sentence = refused('yolo', files)
    for words in ('ROOT/a.txt cannot be converted: line 2', 'a.txt cannot be converted: line 3',
                  'b.txt', 'c.txt', 'd.txt'):  # fmt: skip
        assert words in sentence
    found, remarks = converted('yolo', files, skip=True)
    assert found == {'all': {'a.jpg': ['cup'], 'b.jpg': []}}
    assert (
        'left out 3 faulty objects of 2 images; the other objects of these images stay' in remarks
    )
    assert 'left out 2 images with all objects' in remarks
    assert remarks.count('a.txt: line ') == 2
    for name in ('c.txt', 'd.txt'):
        assert f'{name}: it' in remarks


def test_skip_in_voc(converted, refused):
    files = {**VOC, 'Annotations/a.xml': xml('a.jpg', NO_BOX + CUP_XML), 'Annotations/b.xml': '<a'}
    assert "of 'cup' is empty" in refused('voc', files)
    found, remarks = converted('voc', files, skip=True)
    assert found['all'] == {'JPEGImages/a.jpg': ['cup'], 'JPEGImages/c.jpg': ['cup']}
    assert 'left out 1 faulty object of 1 image;' in remarks
    assert 'left out 1 image with all objects' in remarks


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('end', ['\r\n', '\r'])
def test_label_files_of_any_editor(converted, encoding, end):
    files = {**ONE, 'a.txt': f'0\t0.5 0.5  0.4 0.4 {end}{end}'.encode(encoding), **NAMES}
    assert converted('yolo', files)[0] == {'all': {'a.jpg': ['cup']}}
    text = xml('a.jpg').replace('>cup<', f'>{end} Köln {end}<')
    assert converted('voc', {'a.xml': text.encode(encoding)})[0]['all'] == {'a.jpg': ['Köln']}


def test_xml_in_latin_1(converted, refused):
    text = xml('ä.jpg').replace('cup', 'Köln')
    files = {'ä.jpg': None, 'x/ä.xml': text.encode('latin-1')}
    assert 'perhaps because it is in Latin-1' in refused('voc', files)
    declared = f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{text}'
    found, _ = converted('voc', {**files, 'x/ä.xml': declared.encode('latin-1')})
    assert found == {'all': {'ä.jpg': ['Köln']}}


# Classes


def test_similar_and_rare_classes(converted):
    lines = ''.join(f'{n % 2} {0.2 + n / 1000:.3f} 0.5 0.1 0.1\n' for n in range(300))
    files = {
        **ONE,
        'a.txt': lines + '2 0.5 0.5 0.3 0.3\n',
        'classes.txt': 'cup\nbottle\nbottel\npen',
    }
    _, remarks = converted('yolo', files)
    assert (
        "the classes 'bottle' (150 objects) and 'bottel' (1 object) have similar names" in remarks
    )
    assert "no object has the class 'pen'" in remarks
    files = {**ONE, 'a.txt': lines + '2 0.5 0.5 0.3 0.3\n', 'classes.txt': 'cup\nbottle\ndog'}
    _, remarks = converted('yolo', files)
    assert "1 class has fewer than 10 objects: 'dog' (1)" in remarks
