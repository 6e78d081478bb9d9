"""Draw a small synthetic dataset for trying out detectors, classifiers or segmentation."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from dsnet_mm.data.shapes_folder import Counts

EPILOG = 'An existing dataset with the same options is reused.'
DEFAULT = argparse.SUPPRESS  # the dataset classes define the defaults
ROOTS = {
    'detection': 'data/shapes',
    'classification': 'data/shapes_cls',
    'segmentation': 'data/shapes_seg',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        '--task',
        choices=ROOTS,
        default='detection',
        help='COCO 2017 layout with boxes and polygons, a folder per class, or the layout of '
        'ADE20K with label maps (default: detection)',
    )
    parser.add_argument(
        '--root',
        metavar='DIR',
        help='folder of the dataset (default: data/shapes, or data/shapes_cls for classification, '
        'or data/shapes_seg for segmentation)',
    )
    parser.add_argument('--train', type=int, help='number of training images (default: 400)')
    parser.add_argument('--val', type=int, help='number of validation images (default: 100)')
    parser.add_argument(
        '--size',
        type=int,
        help='height and width of an image in pixels (default: 256, or 64 for classification, or '
        '96 for segmentation)',
    )
    parser.add_argument('--seed', type=int, help='random seed (default: 0)')
    parser.add_argument(
        '--force',
        action='store_true',
        default=False,
        help='replace annotations, train2017 and val2017 (or train, val and shapes.json, or '
        'annotations, images and shapes.json) in DIR',
    )


def run(args: argparse.Namespace) -> None:
    """Draw the dataset unless it exists, and print the numbers of objects."""
    from rich.console import Console
    from rich.progress import track

    from dsnet_mm.data.shapes import ShapesDetection
    from dsnet_mm.data.shapes_classification import ShapesClassification
    from dsnet_mm.data.shapes_segmentation import ShapesSegmentation

    options = vars(args)
    task = options.pop('task')
    root, force = options.pop('root', ROOTS[task]), options.pop('force')
    kinds = (ShapesDetection, ShapesClassification, ShapesSegmentation)
    shapes = next(kind for kind in kinds if kind.task == task)(**options)
    console = Console(highlight=False, soft_wrap=True)
    written = shapes.write(
        root, force, progress=lambda images: track(images, 'drawing images', console=console)
    )
    console.print(
        f'{"wrote" if written else "found"} {shapes.train} training and {shapes.val} validation '
        f'images of {shapes.size}x{shapes.size} pixels in {root}',
        markup=False,
    )
    console.print(count_table(shapes.count(root)))


def count_table(counts: Counts) -> Table:
    """Return a table with a row per class of a split, and a column per size."""
    from rich.table import Table

    from dsnet_mm.data.shapes import SIZE_BINS

    cells = {cell for counter in counts.values() for cell in counter}
    columns = sorted({column for _, column in cells}, key=[*SIZE_BINS, 'images'].index)
    table = Table('split', 'class', *columns)
    for split, counter in counts.items():
        for name in sorted({name for name, _ in cells}):
            table.add_row(split, name, *(str(counter[name, column]) for column in columns))
        table.add_section()
    return table
