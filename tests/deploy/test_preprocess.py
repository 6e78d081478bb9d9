"""Test that graphs get the same input as models in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.registry import DefaultScope

from dsnet_mm.deploy.preprocess import Preprocessing
from dsnet_mm.errors import UserError


def mmdet_input(image: np.ndarray, settings: Preprocessing) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the input of a model in a test of mmdet, and the size before padding."""
    resize = dict(type='Resize', scale=tuple(settings.scale), keep_ratio=settings.keep_ratio)
    pack = dict(type='PackDetInputs', meta_keys=('img_shape',))
    with DefaultScope.overwrite_default_scope('mmdet'):
        packed = Compose([resize, pack])(dict(img=image, img_shape=image.shape[:2]))
    processor = DetDataPreprocessor(
        mean=settings.mean or None,
        std=settings.std or None,
        bgr_to_rgb=settings.bgr_to_rgb,
        pad_size_divisor=settings.pad_size_divisor,
    )
    samples = [packed['data_samples']]
    images = processor(dict(inputs=[packed['inputs']], data_samples=samples))['inputs']
    return images.numpy(), packed['data_samples'].img_shape


IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.mark.parametrize(
    'settings',
    [
        Preprocessing(**IMAGENET, scale=[333, 200], keep_ratio=True, bgr_to_rgb=True,
                      pad_size_divisor=32),
        Preprocessing(**IMAGENET, scale=[97, 65], keep_ratio=False),
        Preprocessing(scale=[160, 160], keep_ratio=True, pad_size_divisor=1),
    ],
    ids=['coco', 'without ratio', 'without normalization'],
)  # fmt: skip
def test_input_is_that_of_mmdet(settings):
    random = np.random.default_rng(0)
    for height, width in [(120, 187), (187, 120), (1, 1), (7, 400), (200, 333), (641, 427)]:
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        given, size = settings(image)
        wanted, wanted_size = mmdet_input(image, settings)
        assert size == wanted_size
        assert given.dtype == np.float32
        assert np.array_equal(given, wanted)


def test_a_thin_image():
    with pytest.raises(UserError, match='900x2 pixels has no pixel left along its shorter side'):
        Preprocessing(scale=[160, 160], keep_ratio=True)(np.zeros((2, 900, 3), np.uint8))
