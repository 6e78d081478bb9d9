"""Export a model to ONNX: backbone, neck, or a RetinaNet up to its boxes, for any image size."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from dsnet_mm.engine.export import (
    PARTS,
    TOLERANCE,
    compare,
    describe,
    is_tried,
    load_part,
    needed,
    sizes_to_check,
    to_onnx,
)
from dsnet_mm.errors import UserError, run_cli
from dsnet_mm.files import check_free, written_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog='NMS is left to the runtime. See docs/export.md.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='its checkpoint (default: random weights)')
    parser.add_argument('out', metavar='OUT.onnx', help='the graph')
    parser.add_argument(
        '--what',
        choices=PARTS,
        default='detector',
        help='maps of the backbone, maps of the neck behind it, or boxes and scores of a '
        'RetinaNet before NMS (default: detector)',
    )
    parser.add_argument(
        '--size',
        default='320x320',
        metavar='HxW',
        help='images that record the graph, which takes any size (default: 320x320)',
    )
    parser.add_argument('--check', action='store_true', help='compare onnxruntime with PyTorch')
    parser.add_argument('--force', action='store_true', help='write over OUT.onnx')
    return parser.parse_intermixed_args()  # options may stand among the files


def main() -> None:
    args = parse_args()
    out = Path(args.out)
    size = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', args.size)
    if not size:
        raise UserError(f'--size {args.size} is no size; give HEIGHTxWIDTH in pixels, as 800x1344')
    if out.suffix != '.onnx':
        raise UserError(f'the graph {out} must end in .onnx; give CONFIG [CHECKPOINT] OUT.onnx')
    check_free(out, args.force)
    for module in ('onnx', 'onnxruntime') if args.check else ('onnx',):
        needed(module)

    part = load_part(args.config, args.checkpoint, args.what)
    if not (args.check or is_tried(part)):
        raise UserError(
            f'the backbone of {args.config} was not tried, and its graph may take one size only; '
            'add --check to find out'
        )
    if not args.checkpoint:
        print('note: no checkpoint is given, so the weights are random', file=sys.stderr)
    size = int(size[1]), int(size[2])
    with written_whole(out) as draft:
        to_onnx(part, size, draft, describe(part, args.config, args.checkpoint))
        if args.check:
            check(part, draft, sizes_to_check(size))
    print(f'written  {out}')


def check(part, draft: Path, sizes: list[tuple[int, int]]) -> None:
    print('largest difference from PyTorch over largest value, onnxruntime on the CPU')
    for (height, width), difference in compare(part, draft, sizes):
        print(f'{height:>6}x{width:<6} {difference:.1e}')
        if not difference <= TOLERANCE:
            raise UserError(
                f'onnxruntime differs from PyTorch by {difference:.1e} at {height}x{width}, more '
                f'than {TOLERANCE:.0e}, so nothing is written; the model may hold sizes as '
                'constants, or try onnx and onnxruntime 1.23.2'
            )


if __name__ == '__main__':
    run_cli(main)
