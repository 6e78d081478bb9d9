"""Download and convert the published ImageNet weights of a DS-Net."""

from __future__ import annotations

import argparse

from dsnet_mm.errors import run_cli
from dsnet_mm.weights.address import get_weights
from dsnet_mm.weights.published_files import ARCHS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('arch', choices=ARCHS, help='which model')
    parser.add_argument(
        '--from', dest='source', metavar='FILE', help='a local file, .pdparams or .pth'
    )
    parser.add_argument('--out', help='the checkpoint to write (default: the cache)')
    parser.add_argument('--url', help='another address of the same file, such as a mirror')
    parser.add_argument('--force', action='store_true', help='replace the checkpoint')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(get_weights(args.arch, args.source, args.out, args.url, force=args.force).report())


if __name__ == '__main__':
    run_cli(main)
