"""Convert published DS-Net weights into a checkpoint for OpenMMLab."""

from __future__ import annotations

import argparse

from dsnet_mm.errors import run_cli
from dsnet_mm.weights.address import get_weights
from dsnet_mm.weights.published_files import ARCHS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='a .pth of SteveTsui/DS-Net or a .pdparams of PaddleClas')
    parser.add_argument('target', help='the checkpoint to write')
    parser.add_argument(
        '--arch', choices=ARCHS, help='what the source must be (default: as its depths say)'
    )
    parser.add_argument(
        '--ema', action='store_true', help="take the average of the weights, 'model_ema'"
    )
    parser.add_argument('--force', action='store_true', help='write over the target')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    weights = get_weights(args.arch, args.source, args.target, ema=args.ema, force=args.force)
    print(weights.report())


if __name__ == '__main__':
    run_cli(main)
