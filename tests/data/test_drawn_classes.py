"""Test that pictures show readable class names, and each class in one color."""

from __future__ import annotations

import os
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from mmdet.datasets import CocoDataset
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from dsnet_mm.data import class_fonts
from dsnet_mm.data.drawn_classes import palette_of, show_classes
from dsnet_mm.data.shapes import METAINFO

COCO = CocoDataset.METAINFO


@pytest.fixture
def logged(caplog):
    """Return the messages of the logger of mmengine, which pytest does not read by itself."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Hide the fonts of this machine but matplotlib's; return a function that installs a font."""
    manager = font_manager.fontManager
    own = [font for font in manager.ttflist if font.fname.startswith(mpl.get_data_path())]
    found: list[str] = []
    monkeypatch.setattr(manager, 'ttflist', own)
    monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: found)

    def install(family: str, filled: str, empty: str = '') -> None:
        path = tmp_path / f'{family}.ttf'
        write_font(path, family, filled, empty)
        found.append(str(path))

    yield install
    manager._findfont_cached.cache_clear()


def write_font(path: os.PathLike, family: str, filled: str, empty: str) -> None:
    """Write a font whose glyphs are black squares, or have no outline as in fonts of emoji."""
    names = {ord(c): f'uni{ord(c):X}' for c in filled + empty}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(['.notdef', *names.values()])
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for point in ((50, 900), (950, 900), (950, 0)):
        pen.lineTo(point)
    pen.closePath()
    square, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    glyphs = {name: square if chr(code) in filled else nothing for code, name in names.items()}
    builder.setupGlyf({'.notdef': nothing, **glyphs})
    builder.setupHorizontalMetrics(dict.fromkeys(['.notdef', *names.values()], (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable(dict(familyName=family, styleName='Regular'))
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)


def draw(classes, palette=None):
    """Draw a box of each class on black, and return its label and the names of the classes."""
    visualizer = DetLocalVisualizer(line_width=1)
    show_classes(visualizer, dict(classes=classes, palette=palette))
    corners = [[10, 60 * i, 190, 60 * i + 50] for i in range(len(classes))]
    objects = InstanceData(bboxes=torch.tensor(corners).float(), labels=torch.arange(len(classes)))
    image = np.zeros((60 * len(classes), 200, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', 'Glyph .* missing')
        visualizer.add_datasample('', image, DetDataSample(gt_instances=objects), draw_pred=False)
        drawn = visualizer.get_image()
    labels = [drawn[60 * i + 3 : 60 * i + 18, 13:100] for i in range(len(classes))]
    return labels, visualizer.dataset_meta['classes']


def share_of_text(label):
    """Return the share of light pixels, which squares fill and letters do not."""
    return (label.min(axis=2) > 150).mean()


def test_names_without_a_font_become_numbers(install, logged):
    labels, names = draw(['cup', '杯子', '钥匙 key', 'สวัสดี'])
    assert names == ['cup', 'class 2', 'class 3', 'class 4']
    assert not np.array_equal(labels[1], labels[2])
    (warning,) = logged.messages
    assert '3 class names cannot be drawn with the installed fonts' in warning
    assert 'class 2 = 杯子, class 3 = 钥匙 key, class 4 = สวัสดี' in warning


def test_a_font_of_the_system_draws_names_that_the_usual_font_lacks(install, logged):
    """It may be younger than matplotlib's list of fonts."""
    install('Boxes', '杯子')
    labels, names = draw(['cup', '杯子 cup'])
    assert names == ['cup', '杯子 cup']
    assert share_of_text(labels[1]) > 2 * share_of_text(labels[0]) > 0
    assert logged.messages == []


def test_one_name_can_need_several_fonts(install, logged):
    install('Boxes', '杯')
    install('Circles', '한')
    _, names = draw(['杯 한 cup', 'サ'])
    assert names == ['杯 한 cup', 'class 2']
    assert len(logged.messages) == 1


def test_glyphs_without_an_outline_do_not_count(install, logged):
    """Fonts of color emoji hold pictures, which matplotlib does not draw."""
    install('Color Emoji', '杯', empty='\N{GRINNING FACE WITH STAR EYES}')
    assert draw(['\N{GRINNING FACE WITH STAR EYES}', '杯'])[1] == ['class 1', '杯']


@pytest.mark.parametrize('name', ['سلام', 'हि'])
def test_scripts_that_an_old_matplotlib_scrambles_become_numbers(
    install, logged, monkeypatch, name
):
    install('Letters', name)
    monkeypatch.setattr(class_fonts, 'SHAPES_SCRIPTS', True)
    assert draw([name])[1] == [name]
    monkeypatch.setattr(class_fonts, 'SHAPES_SCRIPTS', False)
    assert draw([name])[1] == ['class 1']
    assert 'matplotlib 3.11 or later' in logged.messages[0]


def test_names_are_no_formulas(logged):
    """Matplotlib reads formulas between dollars, and fails at half of one."""
    formula, literal = draw(['$_$', 'x'])[0]
    assert share_of_text(formula) > share_of_text(literal)
    assert draw(['two\nlines\t', 'heart\ufe0f'])[1] == ['two lines', 'heart']
    assert logged.messages == []


def test_labels_of_classifiers(install, logged):
    install('Boxes', '杯子')
    texts = []
    for name in ('杯子', 'x'):
        visualizer = UniversalVisualizer()
        show_classes(visualizer, dict(classes=[name]))
        image = np.zeros((60, 300, 3), np.uint8)
        with warnings.catch_warnings():
            warnings.filterwarnings('error', 'Glyph .* missing')
            sample = DataSample().set_gt_label(0)
            texts.append(visualizer.visualize_cls(image, sample))
    assert share_of_text(texts[0]) > share_of_text(texts[1])
    assert logged.messages == []


def test_a_dataset_without_class_names_stays_as_it_is():
    visualizer = DetLocalVisualizer()
    show_classes(visualizer, {})
    assert visualizer.dataset_meta == {}


# Colors


def test_the_palette_of_other_classes_does_not_count():
    """mmdet gives the 80 colors of COCO to every CocoDataset, and fails beyond 80 classes."""
    names = [f'name {i}' for i in range(120)]
    colors = palette_of(names, dict(palette=COCO['palette']))
    assert len(set(colors)) == 120
    assert colors == palette_of(names, {}) == palette_of(names, dict(palette='random'))
    assert colors[:5] == palette_of(names[:5], {})
    apart = [np.abs(np.subtract(a, b)).max() for a in colors[:24] for b in colors[:24] if a != b]
    assert min(apart) > 40


def test_the_palette_of_a_dataset_counts():
    assert palette_of(COCO['classes'], {}) == COCO['palette']
    assert palette_of(COCO['classes'], dict(palette=COCO['palette'])) == COCO['palette']
    assert palette_of(METAINFO['classes'], dict(palette=COCO['palette'])) == METAINFO['palette']
    assert palette_of(['a', 'b'], dict(palette=[(1, 2, 3), [4, 5, 6]])) == [(1, 2, 3), (4, 5, 6)]
    assert palette_of(['a', 'b'], dict(palette=[(1, 2, 3)])) == [(1, 2, 3), palette_of('ab', {})[1]]
    assert palette_of(['a', 'b'], dict(palette=(1, 2, 3))) == [(1, 2, 3)] * 2
    assert palette_of(['a', 'b'], dict(palette='red')) == [(255, 0, 0)] * 2


def test_masks_have_the_color_of_their_class():
    """mmdet shifts the color of each mask at random."""
    visualizer = DetLocalVisualizer()
    show_classes(visualizer, dict(classes=['a', 'b']))
    masks = np.zeros((3, 60, 240), bool)
    for place, mask in enumerate(masks):
        mask[5:55, 80 * place + 5 : 80 * place + 75] = True
    objects = InstanceData(masks=masks, bboxes=torch.zeros(3, 4), labels=torch.tensor([0, 1, 1]))
    sample = DetDataSample(gt_instances=objects)
    visualizer.add_datasample('', np.zeros((60, 240, 3), np.uint8), sample, draw_pred=False)
    first, second, third = visualizer.get_image()[45, [20, 100, 180]]
    assert np.array_equal(second, third)
    for pixel, color in zip((first, second), palette_of('ab', {}), strict=True):
        assert np.abs(pixel / 0.8 - color).max() < 3
