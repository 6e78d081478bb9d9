"""Check a COCO dataset before training."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from dsnet_mm.errors import UserError, counted

from .options import at_least_one

EPILOG = 'The exit status is 0 without problems, 1 with problems, and 2 for a wrong command line.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('ann_file', metavar='ANN', help='annotation file (.json)')
    parser.add_argument(
        'images', metavar='IMAGES', help='folder to which the file names in ANN are relative'
    )
    parser.add_argument(
        '--config', help='also check that classes, heads and pipelines of this config match'
    )
    parser.add_argument(
        '--decode',
        action='store_true',
        help='decode all images as mmdet does, which takes longer (default: read headers, and '
        'check the ends of JPEG and PNG files)',
    )
    parser.add_argument('--verbose', action='store_true', help='also list the checks that passed')
    parser.add_argument(
        '--draw', metavar='DIR', help='draw some images with their objects into a new folder'
    )
    parser.add_argument(
        '--draw-count',
        type=at_least_one,
        default=20,
        metavar='N',
        help='images to draw (default: 20)',
    )


def run(args: argparse.Namespace) -> None:
    """Check the dataset, and print tables and problems."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track

    from dsnet_mm.data.checking import drawing, printing
    from dsnet_mm.data.checking.check import check_set
    from dsnet_mm.data.locate import find_datasets
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.files import check_empty

    if args.draw:
        check_empty(Path(args.draw), '--draw')
    cfg = load_config(args.config) if args.config else None
    console = Console(highlight=False)

    def shown(items: Iterable, total: int) -> Iterable:
        return track(items, 'opening images', total=total, console=console)

    with console.status(f'reading {escape(args.ann_file)}'):
        found = check_set(args.ann_file, args.images, cfg, args.decode, shown)
    for table in printing.tables(found, args.verbose):
        console.print(table)
    for sentence in (*printing.sentences(found), printing.passed(found)):
        console.print(sentence, markup=False, soft_wrap=True)
    if args.draw:
        places = drawing.choose(found.coco, found.findings, args.draw_count)
        datasets = find_datasets(cfg) if cfg else iter(())
        drawn = drawing.draw(
            found.coco,
            args.images,
            args.draw,
            places,
            lambda items: track(items, 'drawing', console=console),
            next((dataset.get('metainfo') for dataset in datasets), None),
        )
        done = f'{counted(drawn, "image")} drawn into {args.draw}'
        console.print(done, markup=False, soft_wrap=True)
    if found.problems:
        raise UserError(
            f'{args.ann_file} has {counted(len(found.problems), "kind")} of problems; fix the '
            'problems listed above, then check again'
        )
    console.print(f'{args.ann_file}: no problems', markup=False, soft_wrap=True)
