"""Measure time and memory of backbones and detectors against each other, in turns."""

from __future__ import annotations

import dsnet_mm  # noqa: F401  # isort: skip  # before PyTorch, whose threads it limits

import argparse
import itertools
import json
import re
from pathlib import Path

import torch
from rich.console import Console

from dsnet_mm.analysis import report
from dsnet_mm.analysis.benchmark import DTYPES, PARTS, Setting, benchmark
from dsnet_mm.engine.options import check_at_least_one
from dsnet_mm.errors import UserError, run_cli
from dsnet_mm.files import check_free, written_whole


def image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match:
        raise argparse.ArgumentTypeError(f'{text} is no size; give HEIGHTxWIDTH, such as 800x1344')
    return int(match[1]), int(match[2])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Ratios are to the first candidate. The time is also held against that of as many '
        "multiply-accumulates in a matrix product. Peak memory is that of PyTorch's allocator "
        'above the model and its input.',
    )
    parser.add_argument(
        'candidates',
        nargs='+',
        metavar='CANDIDATE',
        help='dsnet_t, dsnet_s, dsnet_b, the same with _noalign behind or published_ before (the '
        "paper's formulation), r50, swin_t, pvt_s, or a config",
    )
    parser.add_argument('--part', choices=PARTS, default='backbone', help='default: backbone')
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=image_size,
        default=[(800, 1344)],
        metavar='HxW',
        help='images in pixels (default: 800x1344)',
    )
    parser.add_argument('--batches', nargs='+', type=int, default=[1], metavar='N')
    parser.add_argument('--device', help='cpu or cuda (default: cuda if there is a GPU)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='default: float32')
    parser.add_argument(
        '--channels-last', action='store_true', help='lay out weights and images so'
    )
    parser.add_argument(
        '--compile', action='store_true', help='measure each candidate compiled by PyTorch, too'
    )
    parser.add_argument('--threads', type=int, metavar='N', help='of the CPU (default: all)')
    parser.add_argument('--rounds', type=int, default=5, help='timed runs (default: 5)')
    parser.add_argument('--warmup', type=int, default=2, help='runs before (default: 2)')
    parser.add_argument('--no-memory', action='store_true', help='leave memory out')
    parser.add_argument('--json', metavar='FILE', help='store all that was measured')
    parser.add_argument('--markdown', metavar='FILE', help='store the tables')
    parser.add_argument('--plot', metavar='FILE', help='store a plot, .png or .svg')
    parser.add_argument('--force', action='store_true', help='write over these files')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_at_least_one(args, 'threads')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    for path in filter(None, (args.json, args.markdown, args.plot)):
        check_free(Path(path), args.force)
    if args.plot and not args.plot.endswith(('.png', '.svg')):
        raise UserError(f'--plot {args.plot} must end in .png or .svg')
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    settings = [
        Setting(args.part, *size, batch, device, args.dtype, args.channels_last)
        for size, batch in itertools.product(args.sizes, args.batches)
    ]
    with Console(stderr=True).status('starting') as status:
        groups = list(
            benchmark(
                args.candidates,
                settings,
                rounds=args.rounds,
                warmup=args.warmup,
                memory=not args.no_memory,
                compiled=args.compile,
                report=status.update,
            )
        )
    tables = report.to_markdown(groups)
    print(tables)
    if args.markdown:
        with written_whole(Path(args.markdown)) as draft:
            draft.write_text(tables + '\n', encoding='utf-8')
    if args.json:
        text = json.dumps(report.to_json(groups), indent=2)
        with written_whole(Path(args.json)) as draft:
            draft.write_text(text + '\n', encoding='utf-8')
    if args.plot:
        with written_whole(Path(args.plot)) as draft:
            report.plot(groups, draft)


if __name__ == '__main__':
    run_cli(main)
