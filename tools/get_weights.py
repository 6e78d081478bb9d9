"""Fetch and convert the published ImageNet weights of a DS-Net."""

from __future__ import annotations

import argparse

from dsnet_mm.errors import run_cli
from dsnet_mm.weights.conversion import config_line
from dsnet_mm.weights.fetch import get_weights
from dsnet_mm.weights.published_files import PUBLISHED


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('arch', choices=PUBLISHED, help='which model')
    parser.add_argument(
        '--from', dest='source', metavar='FILE', help='a file fetched by hand, .pdparams or .pth'
    )
    parser.add_argument(
        '--out', help='the checkpoint to write (default: checkpoints/dsnet_{t,s,b}_in1k.pth)'
    )
    parser.add_argument('--url', help='another address of the same file, such as a mirror')
    parser.add_argument('--force', action='store_true', help='write over the checkpoint')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    target = args.out or PUBLISHED[args.arch].checkpoint
    conversion = get_weights(args.arch, target, args.source, args.url, args.force)
    print(conversion.report() if conversion else f'{target} stands already')
    print(f"\nIn a config, in the backbone with arch='{args.arch}':\n  {config_line(target)}")


if __name__ == '__main__':
    run_cli(main)
