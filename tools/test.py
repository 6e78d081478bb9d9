"""Evaluate a checkpoint with the metrics of its config."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.evaluate import evaluate
from dsnet_mm.engine.options import add_shared_options
from dsnet_mm.errors import run_cli
from dsnet_mm.files import check_empty, check_free


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, as tools/train.py writes it')
    add_shared_options(parser)
    parser.add_argument('--out', metavar='FILE', help='store the predictions in this .pkl file')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='store images with the predictions in this folder'
    )
    parser.add_argument(
        '--force', action='store_true', help='write over FILE and over what is in DIR'
    )
    parser.add_argument(
        '--fuse',
        action='store_true',
        help='fold each BatchNorm into the convolution before it, which is exact up to rounding; '
        'those of DS-Blocks are always folded',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.out:
        check_free(Path(args.out), args.force)
    if args.show_dir:
        check_empty(Path(args.show_dir), '--show-dir', args.force)
    cfg = load_config(args.config, args.work_dir, args.cfg_options, args.data_root, args.launcher)
    evaluate(cfg, args.checkpoint, out=args.out, show_dir=args.show_dir, fuse=args.fuse)


if __name__ == '__main__':
    run_cli(main)
