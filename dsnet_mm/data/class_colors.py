"""Choose the colors of classes without a palette."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def all_colors(palette: Sequence[Sequence[float]], count: int) -> list[Color]:
    """Return the colors of ``count`` classes: those of a palette, then colors far apart."""
    colors = [_color(*color) for color in palette[:count]]
    return [*colors, *(_color_of(index) for index in range(len(colors), count))]


def _color(red: float, green: float, blue: float) -> Color:
    return int(red), int(green), int(blue)


def _color_of(index: int) -> Color:
    """Return the color of a class without a palette: the golden ratio keeps the hues apart."""
    saturation, value = ((1.0, 1.0), (0.55, 1.0), (1.0, 0.6))[index // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, saturation, value)
    return _color(255 * red, 255 * green, 255 * blue)
