"""Download, verify and convert pretrained weights ahead of training."""

from __future__ import annotations

import argparse

EPILOG = (
    'Without --out, the weights are written to the cache, where configs find them by addresses '
    'such as dsnet://small_in1k.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'arch',
        nargs='?',
        choices=('tiny', 'small', 'base'),
        help='published model; optional with --from and --out, for any DS-Net or GLNet',
    )
    parser.add_argument(
        '--from',
        dest='source',
        metavar='FILE',
        help='convert a .pdparams of PaddleClas, or a .pth of SteveTsui/DS-Net or rayleizhu/GLMix, '
        'instead',
    )
    parser.add_argument(
        '--out', metavar='FILE', help='checkpoint to write, .pth or .safetensors (default: cache)'
    )
    parser.add_argument('--url', help='another address of the published file, such as a mirror')
    parser.add_argument(
        '--ema', action='store_true', help="convert the averaged weights 'model_ema' of --from"
    )
    parser.add_argument('--force', action='store_true', help='overwrite existing files')


def run(args: argparse.Namespace) -> None:
    """Download or read the weights, and convert them."""
    from dsnet_mm.weights.address import get_weights

    weights = get_weights(args.arch, args.source, args.out, args.url, args.ema, args.force)
    print(weights.report())
