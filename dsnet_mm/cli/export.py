"""Export a model to ONNX: backbone, neck, or a RetinaNet up to its boxes, for any image size."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsnet_mm.errors import UserError

from .options import image_size

if TYPE_CHECKING:
    from torch import nn

EPILOG = 'NMS is left to the runtime. See docs/export.md.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint (default: random weights)')
    parser.add_argument('out', metavar='OUT.onnx', help='graph to write')
    parser.add_argument(
        '--what',
        choices=('backbone', 'neck', 'detector'),
        default='detector',
        help='feature maps of the backbone, feature maps of the neck, or boxes and scores of a '
        'RetinaNet before NMS (default: detector)',
    )
    parser.add_argument(
        '--size',
        type=image_size,
        default=(320, 320),
        metavar='HxW',
        help='size of the images that trace the graph, which takes any size (default: 320x320)',
    )
    parser.add_argument('--check', action='store_true', help='compare onnxruntime with PyTorch')
    parser.add_argument('--force', action='store_true', help='overwrite OUT.onnx')


def run(args: argparse.Namespace) -> None:
    """Export."""
    from dsnet_mm.engine.export import (
        describe,
        is_tried,
        load_part,
        needed,
        sizes_to_check,
        to_onnx,
    )
    from dsnet_mm.files import check_folder, check_free, written_whole

    out = Path(args.out)
    if out.suffix != '.onnx':
        raise UserError(f'the graph {out} must end in .onnx; give CONFIG [CHECKPOINT] OUT.onnx')
    check_free(out, args.force)
    check_folder(out.parent)
    for module in ('onnx', 'onnxruntime') if args.check else ('onnx',):
        needed(module)

    part = load_part(args.config, args.checkpoint, args.what)
    if not (args.check or is_tried(part)):
        raise UserError(
            f'the backbone of {args.config} is untested, and its graph may take one size only; '
            'pass --check to find out'
        )
    if not args.checkpoint:
        print('note: no checkpoint is given, so the weights are random', file=sys.stderr)
    with written_whole(out) as draft:
        to_onnx(part, args.size, draft, describe(part, args.config, args.checkpoint))
        if args.check:
            check(part, draft, sizes_to_check(args.size))
    print(f'written  {out}')


def check(part: nn.Module, graph: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Print how far onnxruntime differs from PyTorch.

    Raises:
        UserError: If it differs by more than the tolerance.
    """
    from dsnet_mm.engine.export import TOLERANCE, compare

    print('largest difference from PyTorch over largest value, onnxruntime on the CPU')
    for (height, width), difference in compare(part, graph, sizes):
        print(f'{height:>6}x{width:<6} {difference:.1e}')
        if not difference <= TOLERANCE:
            raise UserError(
                f'onnxruntime differs from PyTorch by {difference:.1e} at {height}x{width}, more '
                f'than {TOLERANCE:.0e}, so nothing is written; the model may hold sizes as '
                'constants, or try onnx and onnxruntime 1.23.2'
            )
