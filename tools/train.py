"""Train a model from a config."""

from __future__ import annotations

import argparse

from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.options import add_shared_options
from dsnet_mm.engine.train import train
from dsnet_mm.errors import run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_shared_options(parser)
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate by the batch size'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help="go on from a checkpoint; 'auto', also if no path is given, takes the latest one "
        'in the work dir',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.work_dir, args.cfg_options, args.data_root, args.launcher)
    train(cfg, amp=args.amp, auto_scale_lr=args.auto_scale_lr, resume=args.resume)


if __name__ == '__main__':
    run_cli(main)
