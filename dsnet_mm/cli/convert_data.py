"""Convert a dataset with VOC XML or YOLO text labels to COCO, or divide a COCO dataset.

Images stay in place.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dsnet_mm.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from dsnet_mm.data.converting.summary import Conversion

EPILOG = (
    'Splits come from the dataset: ImageSets/Main of VOC, data.yaml, obj.data or lists of YOLO, or '
    'folders with the names train, val (valid) and test. If a label is faulty, the command writes '
    'nothing. The format coco divides SRC, an annotation file, into training and validation.'
)
MOST_CLASSES = 50  # rows of the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('format', choices=('voc', 'yolo', 'coco'), help='format of the labels')
    parser.add_argument(
        'source', metavar='SRC', help='folder of the dataset; annotation file (.json) for coco'
    )
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
        help='about this share of the images for validation, such as 0.2, if the dataset has no '
        'val split; more images in the dataset do not move the others to another split',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='draws another validation split (default: 0)'
    )
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='for coco: folder to which file names are relative (default: the folder of SRC)',
    )
    parser.add_argument(
        '--skip',
        action='store_true',
        help='leave out faulty objects, and images that cannot be used at all',
    )
    parser.add_argument('--force', action='store_true', help='overwrite files in DST')


def run(args: argparse.Namespace) -> None:
    """Convert the dataset, and print a summary and settings for a config."""
    from rich.console import Console
    from rich.progress import track

    from dsnet_mm.data.converting.coco_division import divide_coco
    from dsnet_mm.data.converting.dataset_conversion import convert

    console = Console(highlight=False, soft_wrap=True)

    def shown(items: Iterable, total: int) -> Iterable:
        return track(items, 'reading images', total=total, console=console)

    if args.format == 'coco':
        if args.classes or args.skip:
            raise UserError(
                'the format coco keeps all classes and objects; omit --classes and --skip'
            )
        conversion = divide_coco(
            args.source, args.target, args.images, args.val, args.seed, args.force
        )
    else:
        if args.images:
            raise UserError(
                f'--images is for the format coco; omit it, because {args.source} has the images'
            )
        conversion = convert(
            args.format, args.source, args.target, args.classes, args.val, args.seed, args.skip,
            args.force, shown,
        )  # fmt: skip
    console.print(summary(conversion))
    console.print(class_table(conversion))
    for remark in conversion.remarks:
        console.print(f'note: {remark}.', markup=False)
    console.print(f'Written to {args.target}. In a config:', markup=False)
    for line in settings(conversion):
        console.print(f'  {line}', markup=False)
    splits = [file.path.stem for file in conversion.written]
    if 'train' in splits and 'val' in splits:
        words = ('--images', conversion.data_root, '--out', 'my_config.py')
        console.print(
            'Or write a complete config:\n  dsnet-mm new-config '
            f'{shlex.join((args.target, *words))}',
            markup=False,
        )
    elif 'val' not in splits:
        console.print('note: there is no validation split; pass --val 0.2 to draw one.')


def settings(conversion: Conversion) -> Iterator[str]:
    """Yield lines for a config that reads the written files.

    All files are in ``data_root``, because configs append the names of annotation files to it.
    """
    from dsnet_mm.files import as_folder, common_folder, path_within

    files = [file.path for file in conversion.written]
    root = common_folder([conversion.data_root, *(file.parent for file in files)])
    inside = path_within(root, conversion.data_root)
    images = '' if inside == '.' else as_folder(inside)
    yield f'data_root = {as_folder(root)!r}'
    yield f'classes = {conversion.classes!r}'
    for file in files:
        ann_file = path_within(root, file)
        yield f'{file.stem}_set = dict(ann_file={ann_file!r}, data_prefix=dict(img={images!r}))'


def summary(conversion: Conversion) -> Table:
    """Return a table of the written files."""
    from rich.table import Table

    table = Table('file', 'images', 'without objects', 'objects', 'crowds')
    for file in conversion.written:
        numbers = (file.images, file.empty, file.objects, file.crowds)
        table.add_row(file.path.name, *map(str, numbers))
    return table


def class_table(conversion: Conversion) -> Table:
    """Return a table of the objects of each class in each file."""
    from rich.table import Table
    from rich.text import Text

    table = Table('objects of', *(file.path.name for file in conversion.written))
    for name in conversion.classes[:MOST_CLASSES]:
        table.add_row(Text(name), *(str(file.by_class[name]) for file in conversion.written))
    rest = len(conversion.classes) - MOST_CLASSES
    if rest > 0:
        table.add_row(f'... {rest} more')
    return table
