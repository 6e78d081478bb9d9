"""Count parameters and MACs of backbones and detectors, attention included."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from .options import at_least_one

EPILOG = (
    'MACs are multiply-accumulates of convolutions and matrix products for one image. The command '
    'needs neither data nor weights.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='a config, or one of mmdet, such as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py '
        "(default: this project's COCO configs and the backbones of the papers)",
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=at_least_one,
        metavar=('HEIGHT', 'WIDTH'),
        default=(800, 1280),
        help='image size for detectors in pixels (default: 800 1280)',
    )
    parser.add_argument(
        '--memory',
        action='store_true',
        help='also measure the peak memory of the detectors on this CPU, which takes minutes',
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')
    parser.add_argument(
        '--write',
        metavar='FILE',
        help='write the tables into a document that contains the comments "model table" and '
        '"memory table"',
    )


def run(args: argparse.Namespace) -> None:
    """Count parameters and MACs, and print or write the tables."""
    from rich.console import Console
    from rich.progress import track

    from dsnet_mm.analysis import tables
    from dsnet_mm.analysis.building import detector_configs
    from dsnet_mm.analysis.model_info import (
        PAPERS,
        describe_backbone,
        describe_config,
        describe_memory,
    )

    backbones = [] if args.configs else [describe_backbone(name) for name in PAPERS]
    configs, size = args.configs or detector_configs(), tuple(args.size)
    screen = Console(stderr=True)
    models = [
        describe_config(config, size) for config in track(configs, 'counting', console=screen)
    ]
    memory = []
    if args.memory:
        memory = [
            describe_memory(config, size)
            for config in track(configs, 'measuring memory', console=screen)
        ]
    if args.json:
        infos = [*map(asdict, backbones), *map(asdict, models), *map(asdict, memory)]
        print(json.dumps(infos, indent=2))
        return
    blocks = {'model table': tables.model_tables(backbones, models)}
    if memory:
        blocks['memory table'] = tables.memory_table(memory)
    for name, text in blocks.items():
        if args.write:
            tables.replace_block(args.write, name, text)
        else:
            print(text, end='\n\n')
