"""Test that `dsnet-mm convert-data coco` divides a COCO file without changing its entries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsnet_mm.data.converting.coco_division import divide_coco
from dsnet_mm.errors import UserError
from helpers.commands import dsnet_mm_ends
from helpers.datasets import copy_of_shapes, read_json


@pytest.fixture
def many(tmp_path):
    """Return the content of a file of 200 images, its path and the folder of the images."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    images = [
        dict(id=7 * number, file_name=f'{number:03}.jpg', width=9, height=9, camera='left')
        for number in range(200)
    ]
    annotations = [
        dict(id=1000 + n, image_id=7 * n, category_id=3 + n // 2 % 2, bbox=[1, 1, 5, 5], area=25,
             iscrowd=0, segmentation=[], author='me')
        for n in range(0, 200, 2)
    ]  # fmt: skip
    for image in images:
        (folder / image['file_name']).touch()
    categories = [dict(id=4, name='key'), dict(id=3, name='cup'), dict(id=9, name='pen')]
    content = dict(info=dict(year=2026), images=images, annotations=annotations,
                   categories=categories, tags=['x'])  # fmt: skip
    path = tmp_path / 'photos/all.json'
    path.write_text(json.dumps(content))
    return content, path, folder


def divided(path, target, **options):
    divide_coco(str(path), str(target), force=True, **options)
    return {split: read_json(target / f'{split}.json') for split in ('train', 'val')}


def names(content):
    return {image['file_name'] for image in content['images']}


def test_every_entry_is_in_one_file_unchanged(many, tmp_path):
    content, path, _ = many
    files = divided(path, tmp_path / 'out', val=0.2)
    for key in ('images', 'annotations'):
        both = files['train'][key] + files['val'][key]
        assert sorted(both, key=lambda entry: entry['id']) == content[key]
    for file in files.values():
        assert {key: file[key] for key in ('info', 'categories', 'tags')} == {
            key: content[key] for key in ('info', 'categories', 'tags')
        }
        ids = {image['id'] for image in file['images']}
        assert {item['image_id'] for item in file['annotations']} <= ids
        assert len({item['image_id'] for item in file['annotations']}) < len(ids)
    assert 20 <= len(files['val']['images']) <= 60  # 40 with a deviation of 5.7


def test_more_images_do_not_move_the_others(many, tmp_path):
    content, path, folder = many
    before = divided(path, tmp_path / 'out', val=0.2)
    for number in range(200):
        (folder / f'more{number}.jpg').touch()
        content['images'].insert(0, dict(id=-1 - number, file_name=f'more{number}.jpg'))
    path.write_text(json.dumps(content))
    after = divided(path, tmp_path / 'out', val=0.2)
    for split in ('train', 'val'):
        assert names(before[split]) < names(after[split])
    other = divided(path, tmp_path / 'out', val=0.2, seed=1)
    assert names(other['val']) != names(after['val'])


@pytest.mark.parametrize('val', [0.01, 0.99])
def test_each_file_has_an_image(many, tmp_path, val):
    content, path, _ = many
    content['images'] = content['images'][:3]
    path.write_text(json.dumps(content))
    files = divided(path, tmp_path / 'out', val=val)
    assert all(file['images'] for file in files.values())


def test_printed_counts_and_settings(many, tmp_path, capsys):
    """A file with a byte order mark, and images in another folder."""
    content, path, folder = many
    content['annotations'].append({**content['annotations'][0], 'id': 1, 'image_id': 123456})
    elsewhere = tmp_path / 'labels/all.json'
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(json.dumps(content).encode('utf-8-sig'))
    out = tmp_path / 'labels'
    code = dsnet_mm_ends('convert-data', 'coco', elsewhere, out, '--val', 0.2)
    assert f'pass --images {folder}' in code
    assert not (out / 'train.json').exists()
    words = ('coco', elsewhere, out, '--val', 0.2, '--images', folder, '--seed', 3)
    assert dsnet_mm_ends('convert-data', *words) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    files = {split: read_json(out / f'{split}.json') for split in ('train', 'val')}
    cups = {s: sum(a['category_id'] == 3 for a in c['annotations']) for s, c in files.items()}
    assert f'│ cup │ {cups["train"]} │ {cups["val"]} │' in printed
    assert "note: no object has the class 'pen'." in printed
    assert 'left out 1 annotation whose image is not in' in printed
    assert f"data_root = '{tmp_path}/' classes = ('key', 'cup', 'pen')" in printed
    assert "val_set = dict(ann_file='labels/val.json', data_prefix=dict(img='photos/'))" in printed


def test_a_class_in_one_file_only(many, tmp_path):
    content, path, _ = many
    rare = content['annotations'][0]
    rare['category_id'] = 9
    path.write_text(json.dumps(content))
    remarks = divide_coco(str(path), str(tmp_path / 'out'), val=0.2).remarks
    files = {split: read_json(tmp_path / f'out/{split}.json') for split in ('train', 'val')}
    (without,) = (s for s, file in files.items() if rare not in file['annotations'])
    assert f"{without}.json has no object of 'pen'" in remarks


def change(**fields):
    return lambda content: content.update(fields)


FAULTS = {
    'a repeated id': (
        lambda content: content['images'][1].update(id=0),
        "the id 0 occurs several times in 'images'",
    ),
    'no file name': (
        lambda content: content['images'][1].pop('file_name'),
        "entry 1 of 'images' in {path} has no valid 'file_name'",
    ),
    'no image of an annotation': (
        lambda content: content['annotations'][2].update(image_id=None),
        "entry 2 of 'annotations' in {path} has no valid 'image_id'",
    ),
    'a repeated name': (
        lambda content: content['categories'][1].update(name='key'),
        "several categories with the name 'key'",
    ),
    'no categories': (change(categories=None), "{path} has no list 'categories'"),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faulty_files_are_refused(many, tmp_path, fault):
    content, path, _ = many
    plant, words = FAULTS[fault]
    plant(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        divide_coco(str(path), str(tmp_path / 'out'), val=0.2)
    assert words.format(path=path) in str(error.value)
    assert not (tmp_path / 'out').exists()


def test_the_divided_file_is_never_overwritten(many):
    _, path, folder = many
    train = path.rename(folder / 'train.json')
    before = train.read_bytes()
    code = dsnet_mm_ends('convert-data', 'coco', train, folder, '--val', 0.2, '--force')
    assert f'{train} is the file to divide; choose another folder' in code
    assert train.read_bytes() == before


def test_missing_images_are_counted(shapes_root, tmp_path):
    content, folder = copy_of_shapes(shapes_root, tmp_path)
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(content))
    lost = Path(folder / content['images'][0]['file_name'])
    lost.unlink()
    remarks = divide_coco(str(path), str(tmp_path / 'out'), str(folder), 0.5).remarks
    assert f'1 image is missing in {folder}, such as {lost.name}' in remarks
