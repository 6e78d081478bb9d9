"""Draw the loss and the AP of trainings, from the logs in their work dirs."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsnet_mm.comparison.curves import plot_curves
from dsnet_mm.errors import run_cli
from dsnet_mm.files import check_free, check_place


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of a training')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=[],
        metavar='NAME',
        help='figures by their names in the log (default: the loss and the AP or accuracy)',
    )
    parser.add_argument(
        '--out',
        help='picture to write, PNG, PDF or SVG (default: curves.png in the first work dir)',
    )
    parser.add_argument('--force', action='store_true', help='write over the picture')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = Path(args.out or Path(args.work_dirs[0]) / 'curves.png')
    check_free(out, args.force)
    if args.out:  # what is wrong with a work dir, the reading of its log tells
        check_place(out)
    plot_curves(args.work_dirs, out, args.keys)
    print(f'the curves are in {out}')


if __name__ == '__main__':
    run_cli(main)
