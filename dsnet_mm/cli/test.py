"""Evaluate a checkpoint with the metrics of its config."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_run_options, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_run_options(parser)
    parser.add_argument('--out', metavar='FILE', help='write the predictions to this .pkl file')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='write images with the predictions to this folder'
    )
    parser.add_argument('--force', action='store_true', help='overwrite FILE and files in DIR')
    parser.add_argument(
        '--fuse',
        action='store_true',
        help='fold each BatchNorm into the preceding convolution, which is exact up to rounding',
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate the checkpoint."""
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.evaluate import evaluate
    from dsnet_mm.files import check_empty, check_free

    if args.out:
        check_free(Path(args.out), args.force)
    if args.show_dir:
        check_empty(Path(args.show_dir), '--show-dir', args.force)
    options = read_settings(args.cfg_options)
    cfg = load_config(args.config, args.work_dir, options, args.data_root, args.launcher)
    evaluate(cfg, args.checkpoint, out=args.out, show_dir=args.show_dir, fuse=args.fuse)
