"""Train a model from a config."""

from __future__ import annotations

import argparse

from .options import add_run_options, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config file')
    add_run_options(parser)
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate by the batch size'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='resume from a checkpoint (default: the newest complete one in the work dir)',
    )


def run(args: argparse.Namespace) -> None:
    """Train the model."""
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.train import train

    options = read_settings(args.cfg_options)
    cfg = load_config(args.config, args.work_dir, options, args.data_root, args.launcher)
    train(cfg, amp=args.amp, auto_scale_lr=args.auto_scale_lr, resume=args.resume)
