"""Convert a set with VOC-style XML or YOLO text files to COCO's format; images stay in place."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from os.path import join

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dsnet_mm.data.converting.convert import FORMATS, Conversion, convert
from dsnet_mm.errors import run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The splits are those of the set: ImageSets/Main of VOC, data.yaml of YOLO, or '
        'folders called train, val (valid) and test. Nothing is written if a label is faulty.',
    )
    parser.add_argument('format', choices=FORMATS, help='what the labels are')
    parser.add_argument('source', metavar='SRC', help='folder of the set')
    parser.add_argument('target', metavar='DST', help='folder for train.json, val.json, ...')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help="the classes in their order (default: the set's own; those of VOC sorted by name)",
    )
    parser.add_argument(
        '--val',
        type=float,
        default=0.0,
        metavar='SHARE',
        help='share of the images to keep for validation, such as 0.2, for an undivided set',
    )
    parser.add_argument(
        '--skip', action='store_true', help='leave out images whose files are faulty'
    )
    parser.add_argument('--force', action='store_true', help='write over files in DST')
    return parser.parse_args()


def summary(conversion: Conversion) -> Table:
    table = Table('file', 'images', 'without objects', 'objects', 'crowds')
    for file in conversion.written:
        numbers = (file.images, file.empty, file.objects, file.crowds)
        table.add_row(file.path.name, *map(str, numbers))
    return table


def main() -> None:
    args = parse_args()
    console = Console(highlight=False, soft_wrap=True)

    def shown(items: Iterable, total: int) -> Iterable:
        return track(items, 'reading images', total=total, console=console)

    conversion = convert(
        args.format, args.source, args.target, args.classes, args.val, args.skip, args.force, shown
    )
    console.print(summary(conversion))
    for remark in conversion.remarks:
        console.print(f'note: {remark}.', markup=False)
    console.print(
        # with the slash at its end, since the configs put names of files right behind it
        f'Written to {args.target}. In a config:\n  data_root = {join(args.source, "")!r}\n'
        f'  classes = {conversion.classes!r}',
        markup=False,
    )


if __name__ == '__main__':
    run_cli(main)
