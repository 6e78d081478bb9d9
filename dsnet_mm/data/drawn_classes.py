"""Choose the names and the colors with which pictures show classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmdet.visualization import local_visualizer
from mmdet.visualization.palette import get_palette
from mmengine.logging import print_log
from mmengine.visualization import Visualizer

from . import shapes
from .class_colors import Color, all_colors
from .class_fonts import GENERIC_FAMILIES, write_names


def show_classes(visualizer: Visualizer, meta: Mapping[str, Any]) -> None:
    """Let a visualizer draw readable class names, and each class in a color of its own.

    The visualizer draws names with every installed font that they need. Names for which there is
    no font become numbers, and one warning lists both.

    Args:
        visualizer: A visualizer of mmdet or mmpretrain, which draws texts by ``draw_texts``.
        meta: Metainfo of a dataset, with ``classes`` and, optionally, ``palette``.
    """
    classes = [str(name) for name in meta.get('classes') or ()]
    if not classes:
        return
    names, families, warning = write_names(classes)
    if warning:
        print_log(warning, logger='current', level=logging.WARNING)
    palette = palette_of(classes, meta)
    visualizer.dataset_meta = {**meta, 'classes': names, 'palette': palette}
    # mmdet shifts the color of each mask at random, so far that classes can be mistaken
    setattr(local_visualizer, 'jitter_color', tuple)  # noqa: B010 - mypy knows a function only
    draw = type(visualizer).draw_texts

    def draw_texts(texts: str | list[str], *args: Any, **settings: Any) -> Visualizer:
        family = settings.get('font_families', GENERIC_FAMILIES[0])
        if isinstance(family, str):
            count = 1 if isinstance(texts, str) else len(texts)
            settings['font_families'] = [[family, *families]] * count
        return draw(visualizer, texts, *args, **settings)

    setattr(visualizer, 'draw_texts', draw_texts)  # noqa: B010 - mypy knows a method only
    if texts := getattr(visualizer, 'DEFAULT_TEXT_CFG', None):  # mmpretrain's own way
        fonts = [texts.get('family', GENERIC_FAMILIES[1]), *families]
        setattr(visualizer, 'DEFAULT_TEXT_CFG', {**texts, 'family': fonts})  # noqa: B010


def palette_of(classes: Sequence[str], meta: Mapping[str, Any]) -> list[Color]:
    """Return the color of each class, RGB from 0 to 255, the same in every picture.

    The palette of ``meta`` counts, unless the dataset class brings it for other classes: mmdet's
    CocoDataset has 80 colors, whatever the classes of a config.
    """
    kinds = [CocoDataset, *DATASETS.module_dict.values()]
    metas = [shapes.METAINFO, *(getattr(kind, 'METAINFO', {}) for kind in kinds)]
    known = {
        tuple(known['classes']): known['palette']
        for known in reversed(metas)
        if known.get('classes') and known.get('palette')
    }
    palette, own = meta.get('palette'), known.get(tuple(classes), [])
    if palette in (None, 'random') or (palette != own and palette in known.values()):
        palette = own
    if isinstance(palette, str) or (palette and isinstance(palette[0], int)):
        palette = get_palette(palette, len(classes))  # a name, or one color for all classes
    return all_colors(palette, len(classes))
