"""Measure time and memory of backbones and detectors in interleaved runs."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

from .options import at_least_one, image_size, picture

EPILOG = (
    'Ratios refer to the first candidate. The time is also compared with a matrix product of the '
    "same number of multiply-accumulates. Peak memory covers PyTorch's allocator beyond the model "
    'and its input.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'candidates',
        nargs='+',
        metavar='CANDIDATE',
        help='dsnet_t, dsnet_s or dsnet_b, also with suffix _noalign or _gridN (max_grid_cells=N); '
        'glnet_stl or glnet_4g; all of these also with prefix published_ (the published '
        'formulation); r50, swin_t, pvt_s; or a config',
    )
    parser.add_argument(
        '--part',
        choices=('backbone', 'detector', 'train'),
        default='backbone',
        help='default: backbone',
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=image_size,
        default=[(800, 1344)],
        metavar='HxW',
        help='image sizes in pixels (default: 800x1344)',
    )
    parser.add_argument(
        '--batches', nargs='+', type=at_least_one, default=[1], metavar='N', help='default: 1'
    )
    parser.add_argument('--device', help='cpu or cuda (default: cuda if a GPU is visible)')
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float16', 'bfloat16'),
        default='float32',
        help='type in which backbone and neck compute, and the whole detector in training '
        '(default: float32)',
    )
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='use the channels-last layout for weights and images',
    )
    parser.add_argument(
        '--compile', action='store_true', help='also measure each candidate with torch.compile'
    )
    parser.add_argument(
        '--threads', type=at_least_one, metavar='N', help='threads on a CPU (default: all)'
    )
    parser.add_argument('--rounds', type=at_least_one, default=5, help='timed runs (default: 5)')
    parser.add_argument('--warmup', type=int, default=2, help='untimed runs (default: 2)')
    parser.add_argument('--no-memory', action='store_true', help='do not measure memory')
    parser.add_argument('--json', metavar='FILE', help='write all measurements')
    parser.add_argument('--markdown', metavar='FILE', help='write the tables')
    parser.add_argument('--plot', type=picture, metavar='FILE', help='write a plot, .png or .svg')
    parser.add_argument('--force', action='store_true', help='overwrite these files')


def run(args: argparse.Namespace) -> None:
    """Run the benchmark, print the tables, and write the files."""
    import torch
    from rich.console import Console

    from dsnet_mm.analysis import benchmark_report
    from dsnet_mm.analysis.benchmark import Setting, benchmark
    from dsnet_mm.files import check_free, written_whole

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    for path in filter(None, (args.json, args.markdown, args.plot)):
        check_free(Path(path), args.force)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    settings = [
        Setting(args.part, height, width, batch, device, args.dtype, args.channels_last)
        for (height, width), batch in itertools.product(args.sizes, args.batches)
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
    tables = benchmark_report.to_markdown(groups)
    print(tables)
    writers: dict[str | None, Callable[[Path], object]] = {
        args.markdown: lambda file: file.write_text(tables + '\n', encoding='utf-8'),
        args.json: lambda file: file.write_text(
            json.dumps(benchmark_report.to_json(groups), indent=2) + '\n', encoding='utf-8'
        ),
        args.plot: lambda file: benchmark_report.plot(groups, file),
    }
    for path, write in writers.items():
        if path:
            with written_whole(Path(path)) as draft:
                write(draft)
