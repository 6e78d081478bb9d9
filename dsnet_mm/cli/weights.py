"""Download, verify and convert pretrained ImageNet weights of a DS-Net."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from dsnet_mm.weights.published import PUBLISHED

    parser.add_argument('arch', choices=PUBLISHED, help='model')
    parser.add_argument(
        '--from', dest='source', metavar='FILE', help='a downloaded .pdparams or .pth file'
    )
    parser.add_argument(
        '--out', metavar='FILE', help='checkpoint (default: checkpoints/dsnet_{t,s,b}_in1k.pth)'
    )
    parser.add_argument('--url', help='another address of the same file, such as a mirror')
    parser.add_argument('--force', action='store_true', help='overwrite the checkpoint')


def run(args: argparse.Namespace) -> None:
    """Fetch and convert."""
    from dsnet_mm.weights.convert import config_line
    from dsnet_mm.weights.fetch import get_weights
    from dsnet_mm.weights.published import PUBLISHED

    target = args.out or PUBLISHED[args.arch].checkpoint
    conversion = get_weights(args.arch, target, args.source, args.url, args.force)
    print(conversion.report() if conversion else f'{target} already exists')
    print(f"\nIn a config, in the backbone with arch='{args.arch}':\n  {config_line(target)}")
