"""Draw synthetic images: colored shapes on textured backgrounds.

All randomness comes from the generator argument, so a seed determines the image.
"""

from __future__ import annotations

import cv2
import numpy as np


def _ring(corners: int, inner: float = 1.0) -> np.ndarray:
    """Return corners (N, 2) on a circle, every other one at radius ``inner``, scaled to area 1."""
    angles = (np.arange(corners) + 0.5) * (2 * np.pi / corners)
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    x, y = radii * np.cos(angles), radii * np.sin(angles)
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return np.stack([x, y], axis=1) / np.sqrt(area)


SHAPES: dict[str, np.ndarray] = {
    'circle': _ring(64),
    'square': _ring(4),
    'star': _ring(10, inner=0.45),
    'triangle': _ring(3),
}
"""Outline (N, 2) of area 1 around the origin for each class name.

The names are in alphabetical order, because folder-per-class readers number classes in this order.
"""

_MAX_TURN = np.pi / 9  # largest rotation of an object, in radians
_FRACTION_BITS = 4  # sub-pixel bits of the coordinates for cv2.fillPoly
_MIN_CONTRAST = 110.0  # RGB distance between an object and the mean of the covered pixels


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw blotches of two colors, finer mottling and a few stray lines.

    Returns:
        Float32 BGR image (size, size, 3).
    """
    first = rng.uniform(40, 215, 3)
    second = first + rng.uniform(-35, 35, 3)
    blotches = _smooth_noise(rng, size, cells=int(rng.integers(2, 7)))[..., None]
    image = first * blotches + second * (1 - blotches)
    mottling = _smooth_noise(rng, size, cells=size // 6) - 0.5
    image += rng.uniform(5, 30) * mottling[..., None]
    image = np.ascontiguousarray(image, dtype=np.float32)
    for _ in range(rng.integers(0, 3)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        color = rng.uniform(0, 255, 3).tolist()
        cv2.line(image, start, end, color, int(rng.integers(1, 3)))
    return image


def random_outline(
    rng: np.random.Generator, name: str, side: float, center: np.ndarray
) -> np.ndarray:
    """Place a shape with a slight random rotation and stretch.

    Args:
        rng: Source of the rotation and the stretch.
        name: Key of :data:`SHAPES`.
        side: Square root of the area, in pixels.
        center: Center (x, y), in pixels.

    Returns:
        Corners (N, 2) in pixels, possibly outside the image.
    """
    stretch = rng.uniform(0.85, 1.18)
    angle = rng.uniform(-_MAX_TURN, _MAX_TURN)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return SHAPES[name] * side * (stretch, 1 / stretch) @ turn + center


def coverage(outline: np.ndarray, size: int) -> np.ndarray:
    """Rasterize an outline with smooth edges.

    Returns:
        Uint8 (size, size), 0 outside, 255 inside; pixels >= 128 belong to the object.
    """
    canvas = np.zeros((size, size), np.uint8)
    points = np.round(outline * (1 << _FRACTION_BITS)).astype(np.int32)
    cv2.fillPoly(canvas, [points], 255, lineType=cv2.LINE_AA, shift=_FRACTION_BITS)
    return canvas


def paint(rng: np.random.Generator, image: np.ndarray, cover: np.ndarray) -> None:
    """Paint an object into ``image`` (H, W, 3), in place, with the alpha mask ``cover`` (H, W).

    The color differs from the mean of the covered pixels. The surface is flat, shaded or striped.
    """
    left, top, width, height = cv2.boundingRect(cover)
    window = slice(top, top + height), slice(left, left + width)
    alpha = cover[window].astype(np.float32)[..., None] / 255
    below = (image[window] * alpha).sum((0, 1)) / alpha.sum()
    color = rng.uniform(0, 255, 3)
    while np.linalg.norm(color - below) < _MIN_CONTRAST:
        color = rng.uniform(0, 255, 3)
    surface = color + rng.uniform(10, 35) * _surface_waves(rng, height, width)[..., None]
    image[window] += alpha * (surface - image[window])


def _surface_waves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the zero-mean relief (height, width) of a flat, shaded or striped surface."""
    style = rng.choice(['flat', 'shaded', 'striped'])
    if style == 'flat':
        return np.zeros((height, width))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width]
    along = x * np.cos(angle) + y * np.sin(angle)
    period = rng.uniform(6, 16) if style == 'striped' else 2.0 * (height + width)
    waves = np.sin(along * (2 * np.pi / period))
    return waves - waves.mean()  # otherwise, shading could remove the contrast of the color


def finish(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add camera noise to a float image (H, W, 3) and convert the image to uint8."""
    grain = rng.normal(0, rng.uniform(2, 10), image.shape)
    return np.clip(np.round(image + grain), 0, 255).astype(np.uint8)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode a uint8 BGR image (H, W, 3) as JPEG."""
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Return noise (size, size) in 0 to 1 that varies over about ``size / cells`` pixels."""
    coarse = rng.random((cells + 1, cells + 1))
    return np.clip(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)
