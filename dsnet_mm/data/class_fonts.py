"""Find fonts for class names in pictures; names without a font become numbers."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import font_manager, ft2font

from dsnet_mm.errors import counted

GENERIC_FAMILIES = ('sans-serif', 'monospace')  # the first for mmdet, the second for mmpretrain
# from matplotlib 3.11 on, letters join and run from right to left where their script does
SHAPES_SCRIPTS = hasattr(ft2font, '__libraqm_version__')


class WrittenNames(NamedTuple):
    """Hold how pictures write class names."""

    names: list[str]
    families: list[str]  # the fonts that the names need besides the generic families
    warning: str  # a sentence on names that became numbers, or ''


def write_names(classes: Sequence[str]) -> WrittenNames:
    """Choose how pictures write class names."""
    families = [_families_for(name) for name in classes]
    if None in families:
        _read_new_fonts()
        families = [_families_for(name) for name in classes]
    numbers = {i: f'class {i}' for i, found in enumerate(families, start=1) if found is None}
    warning = ''
    if numbers:
        pairs = ', '.join(f'{text} = {classes[i - 1]}' for i, text in numbers.items())
        advice = 'install a font for their script, such as one of the Noto fonts'
        if any(_needs_shaping(classes[i - 1]) for i in numbers) and not SHAPES_SCRIPTS:
            advice += ', and matplotlib 3.11 or later'
        warning = (
            f'{counted(len(numbers), "class name")} cannot be drawn with the installed fonts, so '
            f'pictures show numbers: {pairs}; {advice}.'
        )
    names = [numbers.get(i, _as_text(name)) for i, name in enumerate(classes, start=1)]
    needed = list(dict.fromkeys(itertools.chain.from_iterable(filter(None, families))))
    return WrittenNames(names, needed, warning)


def _as_text(name: str) -> str:
    """Return a name in one line, as matplotlib draws it literally."""
    seen = ''.join(c for c in name if not _selects_variation(c))
    return ' '.join(seen.split()).replace('$', r'\$')  # between two dollars, formulas begin


def _families_for(name: str) -> list[str] | None:
    """Return the fonts that a name needs besides the usual ones, None if they are missing."""
    if not name.strip() or (_needs_shaping(name) and not SHAPES_SCRIPTS):
        return None
    usual = [_file_of(family) for family in GENERIC_FAMILIES]
    visible = {c for c in name if _is_visible(c)}
    missing = set.union(*(_without_glyph(visible, file) for file in usual))
    if not missing:
        return []
    families = {family: _without_glyph(missing, _file_of(family)) for family in _installed()}
    whole = (family for family, left in families.items() if not left)
    needed = []
    for family in itertools.chain(itertools.islice(whole, 1), families):
        if missing - families[family]:
            needed.append(family)
            missing &= families[family]
    return None if missing else needed


def _without_glyph(characters: set[str], file: str) -> set[str]:
    """Return the characters for which a font file has no glyph."""
    return {c for c in characters if not _draws(file, c)}


def _installed() -> list[str]:
    """Return the installed font families, those without serifs first."""
    upright = (font for font in font_manager.fontManager.ttflist if font.style == 'normal')
    names = {font.name for font in upright if font.weight in (400, 'normal', 'regular', 'book')}
    names = {name for name in names if not name.startswith('Last Resort')}  # boxes for everything
    return sorted(names, key=lambda name: ('Sans' not in name, name))


def _file_of(family: str) -> str:
    """Return the font file that matplotlib uses for a family."""
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


@functools.cache
def _draws(file: str, character: str) -> bool:
    """Return whether a font file has a shape for a character; fonts of color emoji have none."""
    font = font_manager.get_font(file)
    if not font.get_char_index(ord(character)):
        return False
    font.set_size(12, 72)
    left, _, right, _ = font.load_char(ord(character)).bbox
    return right > left


def _read_new_fonts() -> None:
    """Add the fonts that were installed after matplotlib stored its list of fonts."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in known:
            try:
                font_manager.fontManager.addfont(file)
            except Exception:  # FreeType and matplotlib refuse some fonts, each in its own way
                continue


def _needs_shaping(name: str) -> bool:
    """Return whether a script runs from right to left, or has vowels that change places."""
    return any(
        unicodedata.bidirectional(c) in ('R', 'AL') or unicodedata.category(c) == 'Mc' for c in name
    )


def _is_visible(character: str) -> bool:
    ignored = unicodedata.category(character) in ('Cc', 'Cf') or _selects_variation(character)
    return not ignored and not character.isspace()


def _selects_variation(character: str) -> bool:
    return '\ufe00' <= character <= '\ufe0f'
