"""Test `dsnet-mm predict` on images and videos."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, dsnet_mm_ends
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools.coco import COCO

from dsnet_mm.data.pictures import write_image, write_video
from dsnet_mm.engine import predict as engine
from dsnet_mm.errors import UserError

CLASSES = ('circle', 'square', 'star', 'triangle')


def make_detector(folder: Path, base: str, test_cfg: str) -> tuple[Path, Path]:
    """Write config and checkpoint of a detector with random weights that keeps its best boxes."""
    config = folder / f'{base}.py'
    heads = 'bbox_head=dict(num_classes=4), mask_head=dict(num_classes=4)'
    roi_head = f'roi_head=dict({heads}),' if 'mask_rcnn' in base else ''
    config.write_text(f"""
_base_ = {str(ROOT / 'configs' / f'{base}.py')!r}
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1),
                  num_heads=(1, 2, 3, 4), mlp_ratio=2),
        init_cfg=None),
    neck=dict(in_channels=[16, 32, 48, 64]),
    {roi_head}
    test_cfg={test_cfg},
)
""")
    register_all_modules()
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    checkpoint = folder / f'{base}.pth'
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint


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


def predict(monkeypatch, *arguments: object) -> str | None:
    """Run the command in this process; return its message, None for success."""
    return dsnet_mm_ends('predict', *arguments, '--device', 'cpu') or None


def test_a_folder(mask_rcnn, pictures, tmp_path, monkeypatch, capfd):
    out = tmp_path / 'out'
    arguments = [*mask_rcnn, pictures, '--out', out]
    assert predict(monkeypatch, *arguments, '--score', 0) is None
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

    message = predict(monkeypatch, *arguments)
    assert 'out already holds files; pass another folder as --out' in message
    assert predict(monkeypatch, *arguments, '--score', 1, '--force') is None
    assert '0 objects in 2 images' in capfd.readouterr().out
    drawn = cv2.imread(str(out / 'pictures' / 'a.png')).reshape(-1, 3)
    assert np.median(drawn, axis=0).tolist() == [0, 0, 255]


def test_a_video(mask_rcnn, video, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    assert predict(monkeypatch, *mask_rcnn, video, '--out', out, '--score', 0) is None
    frames = json.loads((out / 'predictions.json').read_text())['images']
    assert [frame['file_name'] for frame in frames] == [f'{i:06d}.jpg' for i in range(3)]
    drawn = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert drawn.get(cv2.CAP_PROP_FPS) == 10


@pytest.fixture
def blind(monkeypatch):
    """Replace the detector by a fast one that finds nothing; return config and checkpoint."""

    class Blind:
        classes = CLASSES

        def __init__(self, *arguments: object) -> None:
            pass

        def __call__(self, image: np.ndarray) -> tuple[DetDataSample, np.ndarray]:
            found = DetDataSample(metainfo=dict(ori_shape=image.shape[:2]))
            found.pred_instances = InstanceData(scores=torch.zeros(0))
            return found, image

    monkeypatch.setattr(engine, 'Predictor', Blind)
    return ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py', 'any.pth'


def test_broken_images_are_listed_and_skipped(blind, pictures, tmp_path, monkeypatch, capfd):
    (pictures / 'broken.jpg').write_text('not an image')
    (pictures / 'more' / 'empty.png').touch()
    (pictures / 'folder.png').mkdir()
    out = pictures / 'out'
    for again in ([], ['--force']):  # the second time with earlier drawings
        message = predict(monkeypatch, *blind, pictures, '--out', out, *again)
        assert message.startswith('error: 2 of 4 images cannot be read and are missing in')
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
    message = predict(monkeypatch, *blind, pictures / 'a.png', '--out', out, '--force')
    assert re.fullmatch(r'error: \S.*predictions.json cannot be written; free some .*', message)

    for name in ('a.png', 'more/b.PNG'):
        (pictures / name).unlink()
    out = tmp_path / 'nothing'
    message = predict(monkeypatch, *blind, pictures / 'more', '--out', out)
    assert 'empty.png cannot be read as an image' in message
    (pictures / 'more' / 'b.jpg').write_text('not an image')
    message = predict(monkeypatch, *blind, pictures / 'more', '--out', out)
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
    monkeypatch.setattr(cv2, 'VideoWriter_fourcc', lambda *code: -1)  # a missing codec
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
        ('classifier', 'dsnet_t_in1k.py is not the config of a detector'),
    ],
)
def test_bad_input_is_reported(fault, words, mask_rcnn, pictures, tmp_path, monkeypatch):
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
    elif fault == 'classifier':
        config = ROOT / 'configs' / 'pretrain' / 'dsnet_t_in1k.py'
    message = predict(monkeypatch, config, checkpoint, source, '--out', out, *more)
    assert isinstance(message, str)
    assert message.startswith('error: ')
    assert words in message
    assert not (out / 'predictions.json').exists()
    if fault == 'file as folder':
        assert out.read_text() == 'kept'
