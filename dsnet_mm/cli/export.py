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

EPILOG = 'The graph does not contain NMS. docs/export.md shows how to run the graph.'


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
        help='image size for tracing; the graph accepts any size (default: 320x320)',
    )
    parser.add_argument('--check', action='store_true', help='compare onnxruntime with PyTorch')
    parser.add_argument('--force', action='store_true', help='overwrite OUT.onnx')


def run(args: argparse.Namespace) -> None:
    """Export the model, and optionally check the graph."""
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
        raise UserError(f'the graph {out} must end in .onnx; pass CONFIG [CHECKPOINT] OUT.onnx')
    check_free(out, args.force)
    check_folder(out.parent)
    for module in ('onnx', 'onnxruntime') if args.check else ('onnx',):
        needed(module)

    part = load_part(args.config, args.checkpoint, args.what)
    if not (args.check or is_tried(part)):
        raise UserError(
            f'the backbone of {args.config} is untested, and its graph may accept only one size; '
            'pass --check to test the graph'
        )
    if not args.checkpoint:
        print('note: without a checkpoint, the weights are random', file=sys.stderr)
    with written_whole(out) as draft:
        to_onnx(part, args.size, draft, describe(part, args.config, args.checkpoint))
        if args.check:
            check(part, draft, sizes_to_check(args.size))
    print(f'written  {out}')


def check(part: nn.Module, graph: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Print the differences between onnxruntime and PyTorch.

    Raises:
        UserError: If a difference exceeds the tolerance.
    """
    from dsnet_mm.engine.export import TOLERANCE, compare

    print('largest difference between onnxruntime (CPU) and PyTorch, relative to the largest value')
    for (height, width), difference in compare(part, graph, sizes):
        print(f'{height:>6}x{width:<6} {difference:.1e}')
        if not difference <= TOLERANCE:
            raise UserError(
                f'onnxruntime differs from PyTorch by {difference:.1e} at {height}x{width}, more '
                f'than {TOLERANCE:.0e}, so the graph is not written; remove constant sizes from '
                'the model, or try onnx and onnxruntime 1.23.2'
            )
