"""Test `dsnet-mm predict` on images and videos."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from dsnet_mm.data.pictures import write_image, write_video
from dsnet_mm.data.predictions import Detections
from dsnet_mm.engine import predict as engine
from dsnet_mm.errors import UserError
from helpers.commands import dsnet_mm_ends
from helpers.datasets import CLASSES
from helpers.detectors import make_detector
from helpers.paths import ROOT


@pytest.fixture(scope='module')
def mask_rcnn(tmp_path_factory):
    return make_detector(
        tmp_path_factory.mktemp('mask_rcnn'),
        'mask_rcnn_dsnet_t_fpn_1x_coco',
        'dict(rcnn=dict(score_thr=0.9, max_per_img=3))',  # which --score 0 lowers
    )


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'my pictures'
    (folder / 'more').mkdir(parents=True)
    image = np.full((60, 80, 3), (0, 0, 255), np.uint8)  # red in BGR
    cv2.imwrite(str(folder / 'a.png'), image)
    cv2.imwrite(str(folder / 'more' / 'b.PNG'), image[:, :50])
    (folder / 'notes.txt').write_text('not an image')
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'clip.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48))
    for value in (0, 100, 200):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return path


def predict(*arguments: object) -> str | None:
    """Run the command in this process; return its message, None for success."""
    return dsnet_mm_ends('predict', *arguments, '--device', 'cpu') or None


def test_a_folder(mask_rcnn, pictures, tmp_path, capfd):
    out = tmp_path / 'out'
    arguments = [*mask_rcnn, pictures, '--out', out]
    assert predict(*arguments, '--score', 0) is None
    printed = capfd.readouterr()
    assert '6 objects in 2 images' in printed.out
    assert 'Failed to add' not in printed.out + printed.err  # the visualizer must not store images
    found = COCO(str(out / 'predictions.json'))
    assert [image['file_name'] for image in found.dataset['images']] == ['a.png', 'more/b.PNG']
    assert [category['name'] for category in found.dataset['categories']] == list(CLASSES)
    assert found.loadImgs(2)[0]['width'] == 50
    for annotation in found.dataset['annotations']:
        left, top, width, height = annotation['bbox']
        image = found.loadImgs(annotation['image_id'])[0]
        assert 0 <= left <= left + width <= image['width'] + 1e-3
        assert 0 <= top <= top + height <= image['height'] + 1e-3
        assert found.annToMask(annotation).sum() == annotation['area']
        assert 0 <= annotation['score'] <= 1
    for name in ('a.png', 'more/b.PNG'):
        assert (out / 'pictures' / name).stat().st_size > 0

    message = predict(*arguments)
    assert 'out already holds files; pass another folder as --out' in message
    assert predict(*arguments, '--score', 1, '--force') is None
    assert '0 objects in 2 images' in capfd.readouterr().out
    drawn = cv2.imread(str(out / 'pictures' / 'a.png')).reshape(-1, 3)
    assert np.median(drawn, axis=0).tolist() == [0, 0, 255]


def test_a_thin_image(mask_rcnn, pictures, tmp_path, capfd):
    cv2.imwrite(str(pictures / 'thin.png'), np.zeros((2, 900, 3), np.uint8))
    expected = f'{pictures / "thin.png"} cannot be used: an image of 900x2 pixels has no pixel left'
    message = predict(*mask_rcnn, pictures / 'thin.png', '--out', tmp_path / 'out')
    assert message.startswith('error: ' + expected)
    message = predict(*mask_rcnn, pictures, '--out', tmp_path / 'out')
    assert message.startswith('error: 1 of 3 images cannot be used')
    assert 'skipped: ' + expected in capfd.readouterr().err


def test_settings_replace_those_of_the_config(mask_rcnn, pictures, tmp_path):
    arguments = [*mask_rcnn, pictures, '--score', 0, '--out']
    limit = ['--cfg-options', 'model.backbone.max_grid_cells=1']
    assert predict(*arguments, tmp_path / 'plain') is None
    assert predict(*arguments, tmp_path / 'limited', *limit) is None
    plain, limited = (
        (tmp_path / out / 'predictions.json').read_text() for out in ('plain', 'limited')
    )
    assert plain != limited
    limit[1] = 'model.backbone.max_grid_cells=0'
    assert 'max_grid_cells=0 is no number of cells' in predict(*arguments, tmp_path / 'bad', *limit)


def test_a_video(mask_rcnn, video, tmp_path):
    out = tmp_path / 'out'
    assert predict(*mask_rcnn, video, '--out', out, '--score', 0) is None
    frames = json.loads((out / 'predictions.json').read_text())['images']
    assert [frame['file_name'] for frame in frames] == [f'{i:06d}.jpg' for i in range(3)]
    drawn = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert drawn.get(cv2.CAP_PROP_FPS) == 10


@pytest.fixture
def blind(monkeypatch):
    """Replace the detector by a fast one that finds nothing; return config and checkpoint."""

    class Blind:
        classes, palette = CLASSES, [(0, 0, 0)] * len(CLASSES)

        def __init__(self, *arguments: object) -> None:
            pass

        def __call__(self, image: np.ndarray) -> Detections:
            return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))

    monkeypatch.setattr(engine, 'Predictor', Blind)
    return ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py', 'any.pth'


def test_broken_images_are_listed_and_skipped(blind, pictures, tmp_path, capfd):
    (pictures / 'broken.jpg').write_text('not an image')
    (pictures / 'more' / 'empty.png').touch()
    (pictures / 'folder.png').mkdir()
    out = pictures / 'out'
    for again in ([], ['--force']):  # the second time with earlier drawings
        message = predict(*blind, pictures, '--out', out, *again)
        assert message.startswith('error: 2 of 4 images cannot be used and are missing in')
        printed = capfd.readouterr()
        assert 'in 2 images' in printed.out
        skipped = [line for line in printed.err.splitlines() if line.startswith('skipped: ')]
        names = [pictures / 'broken.jpg', pictures / 'more' / 'empty.png']
        assert skipped == [
            f'skipped: {name} cannot be read as an image; remove it or save it again'
            for name in names
        ]
        images = json.loads((out / 'predictions.json').read_text())['images']
        assert [image['file_name'] for image in images] == ['a.png', 'more/b.PNG']
        drawn = sorted((out / 'pictures').rglob('*.*'))
        assert drawn == [out / 'pictures' / 'a.png', out / 'pictures' / 'more' / 'b.PNG']

    (out / 'predictions.json').unlink()
    (out / 'predictions.json').mkdir()
    message = predict(*blind, pictures / 'a.png', '--out', out, '--force')
    assert re.fullmatch(r'error: \S.*predictions.json cannot be written; free some .*', message)

    for name in ('a.png', 'more/b.PNG'):
        (pictures / name).unlink()
    out = tmp_path / 'nothing'
    message = predict(*blind, pictures / 'more', '--out', out)
    assert 'empty.png cannot be read as an image' in message
    (pictures / 'more' / 'b.jpg').write_text('not an image')
    message = predict(*blind, pictures / 'more', '--out', out)
    assert 'no image in' in message
    assert not out.exists()


def test_formats_that_opencv_cannot_write_are_reported(tmp_path, monkeypatch):
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UserError, match=r'OpenCV cannot write \S+x.docx; save the input image'):
        write_image(tmp_path / 'x.docx', image)
    (tmp_path / 'taken').touch()
    for write in (write_image, lambda path, image: write_video(path, [image], 25.0)):
        with pytest.raises(UserError, match='x.png cannot be written; free some space or'):
            write(tmp_path / 'taken' / 'x.png', image)
    monkeypatch.setattr(cv2.VideoWriter, 'fourcc', lambda *code: -1)  # a missing codec
    with pytest.raises(
        UserError, match=r'OpenCV cannot write the video \S+x.mp4; extract the frames'
    ):
        write_video(tmp_path / 'x.mp4', [image], 25.0)
    assert [path.name for path in tmp_path.iterdir()] == ['taken']


def other_model(folder: Path) -> Path:
    path = folder / 'other.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), path)
    return path


@pytest.mark.parametrize(
    ('fault', 'words'),
    [
        ('missing', 'nowhere does not exist; pass an image'),
        ('empty', 'contains no images; pass a folder with'),
        ('text', 'notes.txt is not supported; pass an image'),
        ('broken image', 'broken.jpg cannot be read as an image'),
        ('broken video', 'broken.mp4 cannot be read as a video'),
        ('score', '--score 2.0 must be between 0 and 1'),
        ('file as folder', 'taken is not a folder; choose another'),
        ('no checkpoint', 'none.pth is not a file'),
        ('other model', 'other.pth does not fit the model'),
        (
            'few names',
            'named.pth has 1 class name (those of COCO if it stores none), but model.roi_head.'
            'bbox_head.num_classes=4',
        ),
        ('many names', 'named.pth has 80 class names'),
        ('classifier', 'dsnet_t_in1k.py is not the config of a detector'),
    ],
)
def test_bad_input_is_reported(fault, words, mask_rcnn, pictures, tmp_path):
    config, checkpoint = mask_rcnn
    source, out, more = pictures, tmp_path / 'out', []
    if fault == 'missing':
        source = tmp_path / 'nowhere'
    elif fault == 'empty':
        source = tmp_path / 'empty'
        source.mkdir()
    elif fault == 'text':
        source = pictures / 'notes.txt'
    elif fault.startswith('broken'):
        source = tmp_path / ('broken.jpg' if 'image' in fault else 'broken.mp4')
        source.write_bytes(b'not an image')
    elif fault == 'score':
        more = ['--score', 2]
    elif fault == 'file as folder':
        out = tmp_path / 'taken'
        out.write_text('kept')
    elif fault == 'no checkpoint':
        checkpoint = tmp_path / 'none.pth'
    elif fault == 'other model':
        checkpoint = other_model(tmp_path)
    elif 'names' in fault:
        weights = torch.load(checkpoint, weights_only=True)
        names = range(80) if fault == 'many names' else range(1)
        weights['meta'] = dict(dataset_meta=dict(classes=[f'class {i}' for i in names]))
        checkpoint = tmp_path / 'named.pth'
        torch.save(weights, checkpoint)
    elif fault == 'classifier':
        config = ROOT / 'configs' / 'pretrain' / 'dsnet_t_in1k.py'
    message = predict(config, checkpoint, source, '--out', out, *more)
    assert isinstance(message, str)
    assert message.startswith('error: ')
    assert words in message
    assert not (out / 'predictions.json').exists()
    if fault == 'file as folder':
        assert out.read_text() == 'kept'
