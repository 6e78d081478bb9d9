"""Export a model to ONNX: backbone, neck, or a detector with NMS, for any image size."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsnet_mm.errors import UserError

from .options import image_size

if TYPE_CHECKING:
    from dsnet_mm.deploy.part import Part, Size

EPILOG = 'docs/export.md lists the detectors, and shows how to run the graph.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint (default: random weights)')
    parser.add_argument('out', metavar='OUT.onnx', help='graph to write')
    parser.add_argument(
        '--what',
        choices=('backbone', 'neck', 'detector'),
        default='detector',
        help='feature maps of the backbone, feature maps of the neck, or detections after NMS '
        '(default: detector)',
    )
    parser.add_argument(
        '--raw',
        action='store_true',
        help='boxes and scores of all anchors of a RetinaNet, before NMS',
    )
    bits = parser.add_mutually_exclusive_group()
    bits.add_argument('--half', action='store_true', help='store and run the network in float16')
    bits.add_argument(
        '--int8',
        action='store_true',
        help='quantize the weights to 8 bits, and activations at run time',
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
    from dsnet_mm.deploy.checking import sizes_to_check
    from dsnet_mm.deploy.loading import is_tried, load_part
    from dsnet_mm.deploy.onnx_file import needed, to_onnx
    from dsnet_mm.deploy.smaller import halve, quantize
    from dsnet_mm.files import check_free, written_whole

    out = Path(args.out)
    if out.suffix != '.onnx':
        raise UserError(f'the graph {out} must end in .onnx; pass CONFIG [CHECKPOINT] OUT.onnx')
    check_free(out, args.force)
    smaller = halve if args.half else quantize if args.int8 else None
    for module in ('onnx', 'onnxruntime') if args.check or smaller else ('onnx',):
        needed(module)

    part, facts = load_part(args.config, args.checkpoint, args.what, args.raw)
    if not (args.check or is_tried(part)):
        raise UserError(
            f'the backbone of {args.config} is untested, and its graph may accept only one size; '
            'pass --check to test the graph'
        )
    if not args.checkpoint:
        print('note: without a checkpoint, the weights are random', file=sys.stderr)
    with written_whole(out) as draft:
        to_onnx(part, args.size, draft, facts)
        if smaller:
            smaller(draft)
        if args.check:
            check(part, draft, sizes_to_check(args.size), exact=not smaller)
    print(f'written  {out}')


def check(part: Part, graph: Path, sizes: Sequence[Size], exact: bool) -> None:
    """Print the differences between onnxruntime and PyTorch.

    Raises:
        UserError: If ``exact`` and a difference exceeds the tolerance.
    """
    from dsnet_mm.deploy.checking import ALIKE, ROUGHLY_ALIKE, SHARE, TOLERANCE, compare

    print('largest difference between onnxruntime (CPU) and PyTorch, relative to the largest value')
    alike = ALIKE if exact else ROUGHLY_ALIKE
    for (height, width), agreement in compare(part, graph, sizes, alike):
        print(f'{height:>6}x{width:<6} {agreement}')
        if agreement.failed or (exact and not agreement.is_close):
            raise UserError(
                f'onnxruntime differs from PyTorch at {height}x{width} ({agreement}), by more '
                f'than {TOLERANCE:.0e} or in more than {1 - SHARE:.0%} of the detections, so the '
                'graph is not written; remove constant sizes from the model, or try onnx and '
                'onnxruntime 1.23.2'
            )
