"""Draw the DS-Block and the GLMix block into ``docs/images``; run ``python docs/draw_block.py``.

The background is transparent. Lines and free text have one grey that is readable on white and on
black, and each box brings its own light fill with dark text.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent / 'images'
WIDTH, HEIGHT = 980, 290
GREY, INK = '#7a838d', '#1b1f24'
BOTH, LOCAL, GLOBAL, ALIGN = '#e3e6ea', '#bfe3c9', '#bcd7f5', '#f7d9a8'
TOP, MIDDLE, BOTTOM = 80, 150, 220  # centers of the three rows


def box(x: int, y: int, width: int, height: int, fill: str, *lines: str) -> str:
    """Return a rounded box with centered lines of text, the first one bold."""
    parts = [
        f'<rect x="{x - width // 2}" y="{y - height // 2}" width="{width}" height="{height}" '
        f'rx="7" fill="{fill}" stroke="{GREY}"/>'
    ]
    first = y + 4.5 - 8.5 * (len(lines) - 1)
    for number, line in enumerate(lines):
        weight = ' font-weight="bold"' if number == 0 else ''
        parts.append(f'<text x="{x}" y="{first + 17 * number}" fill="{INK}"{weight}>{line}</text>')
    return '\n'.join(parts)


def arrow(*points: tuple[int, int], both_ends: bool = False) -> str:
    """Return a line through ``points`` with a head at the end, or at both ends."""
    heads = [head(*points[-2:])]
    if both_ends:
        heads.append(head(points[1], points[0]))
    path = ' '.join(f'{x},{y}' for x, y in points)
    return '\n'.join([f'<polyline points="{path}"/>', *heads])


def head(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the head at ``end`` of a horizontal or vertical line."""
    x, y = end
    dx, dy = ((a > b) - (a < b) for a, b in zip(end, start, strict=True))
    back, side = (x - 9 * dx, y - 9 * dy), (4 * dy, 4 * dx)
    corners = [
        (x, y),
        (back[0] + side[0], back[1] + side[1]),
        (back[0] - side[0], back[1] - side[1]),
    ]
    return f'<polygon points="{" ".join(f"{a},{b}" for a, b in corners)}" fill="{GREY}"/>'


def plus(x: int, y: int) -> str:
    """Return the sign of a sum."""
    return (
        f'<circle cx="{x}" cy="{y}" r="9"/>'
        f'<path d="M{x - 5} {y}h10M{x} {y - 5}v10"/>'
    )  # fmt: skip


def label(x: int, y: int, text: str) -> str:
    """Return text outside the boxes."""
    return f'<text x="{x}" y="{y}" fill="{GREY}">{text}</text>'


def ds_block() -> str:
    """Return the DS-Block as SVG: the seven steps of ``dsnet_mm/models/reference.py``."""
    lines = [
        arrow((24, MIDDLE), (40, MIDDLE)),
        arrow((162, MIDDLE), (188, MIDDLE)),
        arrow((308, MIDDLE), (326, MIDDLE), (326, TOP), (346, TOP)),
        arrow((326, MIDDLE), (326, BOTTOM), (346, BOTTOM)),
        arrow((492, TOP), (674, TOP)),
        arrow((492, BOTTOM), (674, BOTTOM)),
        arrow((583, TOP + 1), (583, MIDDLE - 27), both_ends=True),
        arrow((583, MIDDLE + 27), (583, BOTTOM - 1), both_ends=True),
        arrow((788, MIDDLE), (802, MIDDLE)),
        arrow((820, MIDDLE), (836, MIDDLE)),
        arrow((940, MIDDLE), (956, MIDDLE)),
        arrow((173, MIDDLE), (173, 26), (811, 26), (811, MIDDLE - 9)),
        plus(811, MIDDLE),
    ]
    shapes = [
        label(14, MIDDLE + 4, 'x'),
        box(101, MIDDLE, 122, 58, BOTH, '1 position', '+ depthwise 3×3'),
        box(248, MIDDLE, 120, 58, BOTH, '2 split', 'norm, conv 1×1'),
        box(419, TOP, 146, 58, LOCAL, '3 local stream', '+ depthwise 3×3'),
        box(419, BOTTOM, 146, 58, GLOBAL, '4 global stream', '+ self-attention'),
        box(583, MIDDLE, 142, 54, ALIGN, '5 alignment', '+ cross-attention'),
        box(731, MIDDLE, 114, 198, BOTH, '6 fuse', 'resize global', 'back, concat,', 'conv 1×1'),
        box(888, MIDDLE, 104, 58, BOTH, '7 MLP', '+ norm, MLP'),
        label(966, MIDDLE + 4, 'y'),
        label(492, 18, 'shortcut'),
        label(419, TOP - 36, 'full size'),
        label(419, BOTTOM + 48, 'resized to 1/8 … 1/2'),
        label(583, BOTTOM + 48, 'step 5: starred models'),
    ]
    title = 'DS-Block: a local and a global stream, aligned by cross-attention, then fused'
    return picture(title, lines, shapes)


def glmix_block() -> str:
    """Return the GLMix block as SVG: the steps of ``dsnet_mm/models/glmix_reference.py``."""
    lines = [
        arrow((24, MIDDLE), (40, MIDDLE)),
        arrow((162, MIDDLE), (188, MIDDLE), (188, TOP), (208, TOP)),
        arrow((188, MIDDLE), (188, BOTTOM), (208, BOTTOM)),
        arrow((354, TOP), (674, TOP)),
        arrow((354, BOTTOM), (370, BOTTOM)),
        arrow((488, BOTTOM), (504, BOTTOM)),
        arrow((622, BOTTOM), (674, BOTTOM)),
        arrow((788, MIDDLE), (802, MIDDLE)),
        arrow((820, MIDDLE), (836, MIDDLE)),
        arrow((940, MIDDLE), (956, MIDDLE)),
        arrow((175, MIDDLE), (175, 26), (811, 26), (811, MIDDLE - 9)),
        plus(811, MIDDLE),
    ]
    shapes = [
        label(14, MIDDLE + 4, 'x'),
        box(101, MIDDLE, 122, 58, BOTH, '2 position', '+ depthwise 3×3'),
        box(281, TOP, 146, 58, LOCAL, '6 local branch', '1×1, 5×5, 1×1'),
        box(281, BOTTOM, 146, 58, ALIGN, '1, 3 cluster', 'pixels to 64 slots'),
        box(429, BOTTOM, 118, 58, GLOBAL, '4 relate', 'self-attention'),
        box(563, BOTTOM, 118, 58, ALIGN, '5 dispatch', 'slots to pixels'),
        box(731, MIDDLE, 114, 198, BOTH, '6 add', 'local and', 'global branch'),
        box(888, MIDDLE, 104, 58, BOTH, '7 MLP', '+ norm, MLP'),
        label(966, MIDDLE + 4, 'y'),
        label(492, 18, 'shortcut'),
        label(281, TOP - 36, 'full size, all channels'),
        label(429, BOTTOM + 48, '64 slots for any image size, all channels'),
    ]
    title = 'GLMix block: convolutions on all pixels, and self-attention among 64 slots'
    return picture(title, lines, shapes)


def picture(title: str, lines: list[str], shapes: list[str]) -> str:
    """Return SVG with the arrows below the boxes."""
    body, text = '\n'.join(lines), '\n'.join(shapes)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>{title}</title>
<g fill="none" stroke="{GREY}" stroke-width="1.6">
{body}
</g>
<g font-family="Helvetica, Arial, sans-serif" font-size="13" text-anchor="middle">
{text}
</g>
</svg>
"""


PICTURES = {'block.svg': ds_block, 'glmix.svg': glmix_block}

if __name__ == '__main__':
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding='utf-8')
        print(f'wrote {FOLDER / name}')
