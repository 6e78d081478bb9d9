"""Count parameters and MACs of backbones and whole detectors, attention included."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from dsnet_mm.analysis import tables
from dsnet_mm.analysis.building import detector_configs
from dsnet_mm.analysis.model_info import (
    DETECTION_SIZE,
    PAPER,
    describe_backbone,
    describe_config,
)
from dsnet_mm.errors import UserError, run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='MACs are multiply-accumulates of convolutions and matrix products on one image. '
        'Nothing is computed, so that no data and no weights are needed.',
    )
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='a config, or one that mmdet brings, such as mmdet::retinanet/retinanet_r50_fpn_1x_'
        "coco.py (default: this project's for COCO, and the backbones of the paper)",
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        default=DETECTION_SIZE,
        help='image of the detectors in pixels (default: 800 1280)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')
    parser.add_argument(
        '--write',
        metavar='FILE',
        help='put the tables into a document, between its two comments on a "model table"',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if min(args.size) < 1:
        raise UserError(f'--size {args.size[0]} {args.size[1]} must be at least one pixel')
    backbones = [] if args.configs else [describe_backbone(name) for name in PAPER]
    models = [describe_config(x, tuple(args.size)) for x in args.configs or detector_configs()]
    if args.json:
        print(json.dumps([asdict(info) for info in [*backbones, *models]], indent=2))
        return
    text = tables.model_tables(backbones, models)
    if args.write:
        tables.replace_block(args.write, 'model table', text)
    else:
        print(text)


if __name__ == '__main__':
    run_cli(main)
