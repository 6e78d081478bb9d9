"""Test the drawings of detections and their COCO annotations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from dsnet_mm.data.drawn_classes import palette_of, show_classes
from dsnet_mm.data.predictions import CocoResults, Detections, Painter

NAMES = ('cup', 'key', 'ring')


def detections(with_masks: bool) -> tuple[np.ndarray, Detections]:
    """Return a noisy image of an odd size, and objects of two font sizes, two at its border."""
    image = np.random.default_rng(0).integers(0, 256, (241, 333, 3), np.uint8)
    boxes = np.array([[20.5, 30.2, 320, 230], [0, 0, 60, 50], [250, 200, 333, 241]], np.float32)
    masks = None
    if with_masks:
        masks = np.zeros((3, 241, 333), bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int)):
            mask[top + 10 : bottom - 10, left + 10 : right - 10] = True
            mask[top + 20 : bottom - 20, left + 20 : right - 20] = False
    return image, Detections(boxes, np.array([0.91, 0.5, 0.7]), np.array([0, 2, 1]), masks)


def drawn_by_mmdet(image: np.ndarray, found: Detections) -> np.ndarray:
    visualizer = DetLocalVisualizer()
    show_classes(visualizer, dict(classes=NAMES))
    found = found[found.scores.argsort()]
    objects = InstanceData(
        bboxes=torch.from_numpy(found.boxes),
        labels=torch.from_numpy(found.labels),
        scores=torch.from_numpy(found.scores),
    )
    if found.masks is not None:
        objects.masks = found.masks
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # of boxes at the border
        visualizer.add_datasample(
            '', image[..., ::-1], DetDataSample(pred_instances=objects), draw_gt=False
        )
    return visualizer.get_image()[..., ::-1]


@pytest.mark.parametrize(('with_masks', 'small'), [(False, 8), (True, 60)])
def test_pictures_look_as_those_of_mmdet(with_masks, small):
    """mmdet draws boxes and names twice around masks, which makes them a little stronger."""
    image, found = detections(with_masks)
    before = image.copy()
    drawn = Painter(NAMES, palette_of(NAMES, {}))(image, found)
    difference = np.abs(drawn.astype(int) - drawn_by_mmdet(image, found))
    assert (difference.max(2) > small).mean() < 0.01
    assert (np.abs(drawn.astype(int) - image).max(2) > 8).mean() > 0.05
    assert np.array_equal(image, before)


def test_an_image_without_objects_stays_as_it_is():
    image, found = detections(with_masks=True)
    none = found[np.zeros(3, bool)]
    assert np.array_equal(Painter(NAMES, palette_of(NAMES, {}))(image, none), image)


def test_coco_annotations():
    image, found = detections(with_masks=True)
    results = CocoResults(NAMES)
    results.add('a.jpg', image, found[found.scores > 0.6])
    results.add('b.jpg', image, found[:1])
    content = results.as_dict()
    assert content['images'][1] == dict(id=2, file_name='b.jpg', height=241, width=333)
    assert [item['id'] for item in content['annotations']] == [1, 2, 3]
    assert [item['image_id'] for item in content['annotations']] == [1, 1, 2]
    assert [item['category_id'] for item in content['annotations']] == [1, 2, 1]
    second = content['annotations'][1]
    assert second['bbox'] == [250, 200, 83, 41]
    assert second['area'] == found.masks[2].sum()
    assert second['segmentation']['size'] == [241, 333]
