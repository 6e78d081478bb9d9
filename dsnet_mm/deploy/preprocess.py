"""Prepare images for a graph as mmdet's test pipeline does, without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dsnet_mm.data.pictures import too_thin


@dataclass(frozen=True)
class Preprocessing:
    """Resize, normalize and pad images.

    Args:
        scale: Width and height in pixels of the resized image. With ``keep_ratio``, the longer
            value limits the longer side and the other value the other side.
        keep_ratio: Whether images keep their aspect ratio.
        mean: Mean of each channel; empty for no normalization.
        std: Standard deviation of each channel.
        bgr_to_rgb: Whether the channels change to red, green, blue before normalization.
        pad_size_divisor: Height and width become multiples of this number.
    """

    scale: Sequence[int]
    keep_ratio: bool = False
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    bgr_to_rgb: bool = False
    pad_size_divisor: int = 1

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Prepare an image.

        Args:
            image: (H, W, 3) in blue, green, red, 0 to 255.

        Returns:
            The input (1, 3, H', W') of the graph in float32, and the height and the width of the
            image in it, before padding.

        Raises:
            UserError: If the image is too thin to be resized.
        """
        height, width = self.resized_size(*image.shape[:2])
        if not (height and width):
            raise too_thin(image)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = image[..., ::-1] if self.bgr_to_rgb else image
        pixels = pixels.astype(np.float32)
        if len(self.mean):
            mean, std = (np.array(x, np.float32) for x in (self.mean, self.std))
            pixels = (pixels - mean) / std
        below, right = (-side % self.pad_size_divisor for side in (height, width))
        pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]), (height, width)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of an image after the resize."""
        if not self.keep_ratio:
            return self.scale[1], self.scale[0]
        scale = min(max(self.scale) / max(height, width), min(self.scale) / min(height, width))
        return math.floor(height * scale + 0.5), math.floor(width * scale + 0.5)
