"""Check a data set in COCO's format before training on it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from dsnet_mm.data.checking import drawing, report
from dsnet_mm.data.checking.check import check_set
from dsnet_mm.engine.config import load_config
from dsnet_mm.errors import UserError, counted, run_cli
from dsnet_mm.files import check_empty


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The exit status is 0 if nothing is wrong, 1 if something is, 2 if the command '
        'cannot be understood.',
    )
    parser.add_argument('ann_file', metavar='ANN', help='annotation file (.json)')
    parser.add_argument(
        'images', metavar='IMAGES', help='folder to which the file names in it are relative'
    )
    parser.add_argument(
        '--config', help='config whose classes, heads and pipelines the set is compared with'
    )
    parser.add_argument(
        '--decode',
        action='store_true',
        help='decode all images as mmdet does, which takes longer (default: their headers, and '
        'whether the ends of JPEG and PNG files are there)',
    )
    parser.add_argument(
        '--draw', metavar='DIR', help='draw some images with their objects into a new folder'
    )
    parser.add_argument(
        '--draw-count', type=int, default=20, metavar='N', help='how many (default: 20)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.draw_count < 1:
        raise UserError(f'--draw-count is {args.draw_count}, but must be at least 1')
    if args.draw:
        check_empty(Path(args.draw), '--draw')
    cfg = load_config(args.config) if args.config else None
    console = Console(highlight=False)

    def shown(items: Iterable, total: int) -> Iterable:
        return track(items, 'opening images', total=total, console=console)

    with console.status(f'reading {escape(args.ann_file)}'):
        found = check_set(args.ann_file, args.images, cfg, args.decode, shown)
    for table in report.tables(found):
        console.print(table)
    for sentence in report.sentences(found):
        console.print(sentence, markup=False, soft_wrap=True)
    if args.draw:
        places = drawing.choose(found.coco, found.findings, args.draw_count)
        drawn = drawing.draw(
            found.coco, args.images, args.draw, places,
            lambda items: track(items, 'drawing', console=console),
        )  # fmt: skip
        done = f'{counted(drawn, "image")} drawn into {args.draw}'
        console.print(done, markup=False, soft_wrap=True)
    if found.problems:
        raise UserError(
            f'{args.ann_file} has {counted(len(found.problems), "kind")} of problems; mend what is '
            'said above, then check again'
        )
    console.print(f'{args.ann_file}: nothing is wrong', markup=False, soft_wrap=True)


if __name__ == '__main__':
    run_cli(main)
