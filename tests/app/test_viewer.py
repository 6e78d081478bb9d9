"""Test what the web page shows, without a browser."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from dsnet_mm.analysis.ds_block_maps import TO_GLOBAL
from dsnet_mm.analysis.glnet_maps import ATTENTION, CLUSTERING, DISPATCH, LOCAL, OWNERS
from dsnet_mm.analysis.streams import find_block, read, record
from dsnet_mm.app.viewer import LOWEST_SCORE, MAX_PIXELS, Viewer, read_upload
from dsnet_mm.data.pictures import read_image
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.predict import Predictor
from dsnet_mm.errors import UserError
from helpers.detectors import make_detector

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    return make_detector(
        tmp_path_factory.mktemp('detector'),
        'mask_rcnn_dsnet_t_fpn_1x_coco',
        'dict(rcnn=dict(score_thr=0.0, max_per_img=8))',
    )


def predictor_of(detector, score: float) -> Predictor:
    config, checkpoint = detector
    return Predictor(load_config(str(config)), str(checkpoint), score, 'cpu')


@pytest.fixture(scope='module')
def viewer(detector):
    return Viewer(predictor_of(detector, LOWEST_SCORE))


@pytest.fixture
def view(viewer):
    return viewer.view(IMAGE, (3, 1))


def test_a_higher_score_shows_the_objects_of_predict(detector, viewer, view, monkeypatch):
    monkeypatch.setattr(viewer.predictor, 'sample', None)  # the detector does not run again
    picture, rows = viewer.detections(view, LOWEST_SCORE)
    scores = sorted((row[1] for row in rows), reverse=True)
    assert [row[1] for row in rows] == scores
    middle = float(np.median(view.found.scores)) + 1e-6
    fewer_picture, fewer = viewer.detections(view, middle)
    assert 0 < len(fewer) < len(rows)
    assert (fewer_picture != picture).any()

    found = predictor_of(detector, middle)(IMAGE)
    found = found[np.argsort(-found.scores, kind='stable')]
    assert [row[0] for row in fewer] == [viewer.predictor.classes[i] for i in found.labels]
    np.testing.assert_allclose([row[2:] for row in fewer], found.boxes, atol=0.06)

    nothing, no_rows = viewer.detections(view, 1)
    assert no_rows == []
    assert np.abs(nothing.astype(int) - view.shown[..., ::-1]).mean() < 1


@pytest.mark.parametrize(
    ('size', 'shown'),
    [((60, 80), (480, 640)), ((900, 1600), (450, 800)), ((700, 650), (700, 650)),
     ((60, 900), (53, 800))],
)  # fmt: skip
def test_masks_and_boxes_are_shown_at_the_same_place(viewer, size, shown):
    """In the size of the page, which has enough pixels for names, and not too many to send."""
    image = cv2.resize(IMAGE, size[::-1])
    view = viewer.view(image, None)
    assert view.shown.shape[:2] == shown
    original, resized = viewer.predictor(image), view.found
    assert resized.masks.shape == (len(original.boxes), *shown)
    for one, other in zip(original.masks, resized.masks, strict=True):
        assert other.mean() == pytest.approx(one.mean(), abs=0.01)
    zoom = np.array([shown[1] / size[1], shown[0] / size[0]] * 2)
    np.testing.assert_allclose(resized.boxes, original.boxes * zoom, rtol=1e-5)
    assert viewer.detections(view, LOWEST_SCORE)[0].shape == (*shown, 3)


def test_a_shown_pixel_chooses_the_place_in_the_maps(viewer, view):
    centered, corner = viewer.maps(view, None), viewer.maps(view, (639, 0))
    assert [title for _, title in centered] == [title for _, title in corner]
    assert len(centered) == 4
    block = find_block(viewer.backbone, 3, 1)
    found, tensors = record(block, lambda: viewer.predictor.sample(IMAGE))
    expected = read(block, tensors, (0, 79.9 / 80 * found.img_shape[1] / 96))[TO_GLOBAL]
    panel = corner[2][0]
    assert panel[0, 639].tolist() == [0, 255, 255]  # the cross
    rows, columns = expected.shape
    brightest = int(expected.argmax())
    y = (brightest // columns + 0.75) / rows * 96 / found.img_shape[0]
    x = (brightest % columns + 0.75) / columns * 96 / found.img_shape[1]
    if x < 1 and y < 1:
        assert panel[int(y * 480), int(x * 640)].mean() >= np.percentile(panel.mean(2), 80)


def test_blocks_differ(viewer, view):
    assert viewer.blocks == [(1, 1), (2, 1), (3, 1), (4, 1)]
    other = viewer.view(IMAGE, (2, 1))
    assert (viewer.maps(other, None)[0][0] != viewer.maps(view, None)[0][0]).any()


def test_maps_of_glnet(tmp_path):
    """A click changes the maps of the slot; other blocks have the attention of the pixel."""
    detector = make_detector(
        tmp_path, 'mask_rcnn_glnet_4g_fpn_1x_coco', 'dict(rcnn=dict(score_thr=0.0, max_per_img=8))'
    )
    viewer = Viewer(predictor_of(detector, LOWEST_SCORE))
    assert viewer.blocks == [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1)]
    assert [note.split()[:2] for note in viewer.notes] == [['The', 'slot'], ['In', 'some']]
    view = viewer.view(IMAGE, (1, 1))
    centered, corner = ({title: panel for panel, title in viewer.maps(view, pixel)}
                        for pixel in (None, (639, 0)))  # fmt: skip
    assert list(corner) == [OWNERS, CLUSTERING, DISPATCH, LOCAL]
    rest = np.s_[60:180]  # rows without a cross
    changed = [title for title in corner if (corner[title][rest] != centered[title][rest]).any()]
    assert changed == [CLUSTERING, DISPATCH]
    assert [title for _, title in viewer.maps(viewer.view(IMAGE, (3, 2)), None)] == [ATTENTION]


def test_other_backbones_have_no_maps(viewer):
    predictor = SimpleNamespace(
        sample=viewer.predictor.sample,
        classes=['cat'],
        palette=[(255, 0, 0)],
        inferencer=SimpleNamespace(model=SimpleNamespace(backbone=SimpleNamespace())),
    )
    other = Viewer(predictor)
    assert other.blocks == []
    assert other.maps(other.view(IMAGE, None), (3, 3)) == []


@pytest.mark.parametrize('name', ['gray.gif', 'print.jpg', 'deep.png', 'turned.jpg'])
def test_uploads_are_read_as_by_predict(name, tmp_path):
    image, path = Image.fromarray(IMAGE), tmp_path / name
    if name == 'deep.png':
        cv2.imwrite(str(path), IMAGE[..., 0].astype(np.uint16) * 256)
    elif name == 'turned.jpg':
        exif = Image.Exif()
        exif[274] = 6
        image.save(path, exif=exif)
    else:
        image.convert('L' if 'gif' in name else 'CMYK').save(path)
    uploaded = read_upload(path)
    np.testing.assert_array_equal(uploaded, read_image(path))
    assert uploaded.shape == ((80, 60, 3) if name == 'turned.jpg' else (60, 80, 3))


def start_of_png(width: int, height: int) -> bytes:
    """Return a PNG file that ends before its pixels."""
    file = b'\x89PNG\r\n\x1a\n'
    for content in (b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0), b'IDAT'):
        file += struct.pack('>I', len(content) - 4) + content
        file += struct.pack('>I', zlib.crc32(content))
    return file


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'text', 'a.png is not a picture; save it again as JPEG or PNG'),
        (b'', 'a.png is not a picture; save'),
        (start_of_png(60, 80), 'a.png cannot be read as an image'),
        (start_of_png(5001, 5000), 'a.png has 5001x5000 pixels: the limit is 25 million pixels;'),
        (start_of_png(60_000, 60_000), 'a.png is too large: the limit is 25 million pixels;'),
    ],
    ids=['text', 'empty', 'broken', 'large', 'huge'],
)
def test_unusable_uploads_are_refused_in_a_sentence_without_a_folder(content, words, tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_upload(path)
    assert str(error.value).startswith(words)
    assert str(tmp_path) not in str(error.value)
    assert MAX_PIXELS == 25_000_000
