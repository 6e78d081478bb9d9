"""Write a small synthetic data set for trying out detectors or classifiers."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dsnet_mm.data.shapes import SIZE_BINS, ShapesDetection
from dsnet_mm.data.shapes_classification import ShapesClassification
from dsnet_mm.data.shapes_folder import Counts
from dsnet_mm.errors import run_cli

SETS = {
    'detection': (ShapesDetection, 'data/shapes'),
    'classification': (ShapesClassification, 'data/shapes_cls'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        argument_default=argparse.SUPPRESS,
        epilog='A set that stands already, made with the same options, is used as it is.',
    )
    parser.add_argument(
        '--task',
        choices=SETS,
        default='detection',
        help='COCO 2017 layout with boxes and polygons, or a folder per class (default: detection)',
    )
    parser.add_argument(
        '--root',
        help='folder of the set (default: data/shapes, or data/shapes_cls for classification)',
    )
    parser.add_argument('--train', type=int, help='number of training images (default: 400)')
    parser.add_argument('--val', type=int, help='number of validation images (default: 100)')
    parser.add_argument(
        '--size',
        type=int,
        help='height and width of an image in pixels (default: 256, or 64 for classification)',
    )
    parser.add_argument('--seed', type=int, help='seed of everything random (default: 0)')
    parser.add_argument(
        '--force',
        action='store_true',
        default=False,
        help='delete what stands in the folder under the names of the set '
        '(annotations, train2017, val2017; or train, val, shapes.json)',
    )
    return parser.parse_args()


def count_table(counts: Counts) -> Table:
    """Lay out ``counts`` as a table: a row for a class of a split, a column for a size."""
    cells = {cell for counter in counts.values() for cell in counter}
    columns = sorted({column for _, column in cells}, key=[*SIZE_BINS, 'images'].index)
    table = Table('split', 'class', *columns)
    for split, counter in counts.items():
        for name in sorted({name for name, _ in cells}):
            table.add_row(split, name, *(str(counter[name, column]) for column in columns))
        table.add_section()
    return table


def main() -> None:
    options = vars(parse_args())
    set_type, default_root = SETS[options.pop('task')]
    root, force = options.pop('root', default_root), options.pop('force')
    shapes = set_type(**options)
    console = Console(highlight=False, soft_wrap=True)
    written = shapes.write(
        root, force, progress=lambda images: track(images, 'drawing images', console=console)
    )
    console.print(
        f'{shapes.train} training and {shapes.val} validation images of '
        f'{shapes.size}x{shapes.size} pixels '
        f'{"written to" if written else "found, and used as they are, in"} {root}',
        markup=False,
    )
    console.print(count_table(shapes.count(root)))


if __name__ == '__main__':
    run_cli(main)
