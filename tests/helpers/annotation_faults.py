"""Faults of COCO annotation files, and the problems that the checks report for each."""

from __future__ import annotations

import cv2
import numpy as np

from helpers.datasets import jpeg


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
    for place, annotation in enumerate(content['annotations']):
        annotation.update(bbox=[1, 1, 20 + place, 20], segmentation=[[1, 1, 21, 1, 21, 21]])


def as_fractions(content, folder):
    for annotation in content['annotations']:
        annotation['bbox'] = [side / 96 for side in annotation['bbox']]


def as_corners(content, folder):
    for place, annotation in enumerate(content['annotations']):
        annotation['bbox'] = [50, 50, 80 + place, 80]


def repeat_object(content, folder):
    content['annotations'].append(dict(content['annotations'][0], id=77))


def all_crowds(content, folder):
    for annotation in content['annotations']:
        annotation['iscrowd'] = 1


def with_16_bits(content, folder):
    """Write a picture of a camera with 12 bits."""
    name = content['images'][0]['file_name'].replace('.jpg', '.png')
    content['images'][0]['file_name'] = name
    pixels = np.arange(96 * 96 * 3, dtype=np.uint16).reshape(96, 96, 3) % 4096
    cv2.imwrite(str(folder / name), pixels)


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
                               'RLE masks whose counts do not fill their size'),
    'packed RLE that does not fill': (set_mask(dict(size=[96, 96], counts='PQ1')),
                                      'RLE masks whose counts do not fill their size'),
    'polygon with NaN': (set_mask([[1, 2, 3, 4, 5, float('nan')]]),
                         'masks that are neither polygons nor RLE'),
    'polygon outside': (set_mask([[100, 2, 120, 4, 110, 30]]),
                        'masks without a pixel in their image'),
    'iscrowd missing': (drop('annotations', 'iscrowd'),
                        'annotations whose iscrowd is neither 0 nor 1'),
    'iscrowd null': (set_entry('annotations', 'iscrowd', None),
                     'annotations whose iscrowd is neither 0 nor 1'),
    'iscrowd a text': (set_entry('annotations', 'iscrowd', '0'),
                       'annotations whose iscrowd is neither 0 nor 1'),
    'iscrowd 2': (set_entry('annotations', 'iscrowd', 2),
                  'annotations whose iscrowd is neither 0 nor 1'),
    'all crowds': (all_crowds, 'crowds in a file without other objects'),
    'ignore': (set_entry('annotations', 'ignore', 1), 'annotations with a true ignore'),
    'area infinite': (set_entry('annotations', 'area', float('inf')),
                      'annotations with an area above 1e+10 pixels'),
    'object repeated': (repeat_object,
                        'objects that repeat image, category and box of another object'),
    '16 bits': (with_16_bits,
                'image files with 16 bits per channel that are nearly black in 8 bits'),
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
