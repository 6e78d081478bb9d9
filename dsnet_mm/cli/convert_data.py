"""Convert a dataset with VOC XML or YOLO text labels to COCO; images stay in place."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from os.path import join
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from dsnet_mm.data.converting.dataset_conversion import Conversion

EPILOG = (
    'Splits come from the dataset: ImageSets/Main of VOC, data.yaml of YOLO, or folders with the '
    'names train, val (valid) and test. If a label is faulty, the command writes nothing.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('format', choices=('voc', 'yolo'), help='format of the labels')
    parser.add_argument('source', metavar='SRC', help='folder of the dataset')
    parser.add_argument('target', metavar='DST', help='folder for train.json, val.json, ...')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help="class names in order (default: the dataset's own; VOC classes sorted by name)",
    )
    parser.add_argument(
        '--val',
        type=float,
        default=0.0,
        metavar='SHARE',
        help='share of the images for validation, such as 0.2, if the dataset has no val split',
    )
    parser.add_argument('--skip', action='store_true', help='skip images with faulty files')
    parser.add_argument('--force', action='store_true', help='overwrite files in DST')


def run(args: argparse.Namespace) -> None:
    """Convert the dataset, and print a summary and settings for a config."""
    from rich.console import Console
    from rich.progress import track

    from dsnet_mm.data.converting.dataset_conversion import convert

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
        # a trailing slash, because configs append file names to data_root
        f'Written to {args.target}. In a config:\n  data_root = {join(args.source, "")!r}\n'
        f'  classes = {conversion.classes!r}',
        markup=False,
    )


def summary(conversion: Conversion) -> Table:
    """Return a table of the written files."""
    from rich.table import Table

    table = Table('file', 'images', 'without objects', 'objects', 'crowds')
    for file in conversion.written:
        numbers = (file.images, file.empty, file.objects, file.crowds)
        table.add_row(file.path.name, *map(str, numbers))
    return table
