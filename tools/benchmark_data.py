"""Measure how fast a process loads the images of a config, and say how many a GPU needs."""

from __future__ import annotations

import argparse

from rich.progress import track

from dsnet_mm.analysis.loading import describe, loading_times
from dsnet_mm.data.locate import check_data
from dsnet_mm.engine.launch import load_config
from dsnet_mm.engine.options import check_at_least_one
from dsnet_mm.errors import UserError, run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--data-root', metavar='DIR', help="folder of the data, not the config's")
    parser.add_argument('--images', type=int, default=100, metavar='N', help='default: 100')
    parser.add_argument(
        '--rates',
        nargs='+',
        type=float,
        default=[10, 20, 40],
        metavar='R',
        help='images per second that a GPU trains (default: 10 20 40)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_at_least_one(args, 'images')
    if min(args.rates) <= 0:
        raise UserError(f'--rates {min(args.rates):g} must be above 0')
    cfg = load_config(args.config, data_root=args.data_root)
    check_data(cfg, ('train',))
    seconds = loading_times(cfg, args.images, lambda numbers: track(numbers, 'loading'))
    print(describe(seconds, args.rates))


if __name__ == '__main__':
    run_cli(main)
