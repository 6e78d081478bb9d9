"""Train and compare detectors: a table, a plot, and verdicts on the paper's claims."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsnet_mm.errors import UserError, counted

from .options import add_settings, at_least_one, read_settings

if TYPE_CHECKING:
    from mmengine.config import Config
    from rich.console import Console

    from dsnet_mm.comparison.suites import Entry, Suite
    from dsnet_mm.comparison.work_dir_reader import Run

EPILOG = (
    'Verdicts use finished runs only; others are listed. docs/compare.md explains the verdicts.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        '--suite',
        choices=('shapes', 'coco'),
        default='shapes',
        help='small detectors on synthetic shapes, or those of the paper on COCO (default: shapes)',
    )
    parser.add_argument(
        '--work-dirs',
        default='work_dirs',
        metavar='DIR',
        help='folder of the runs, each in CONFIG/seed_N or CONFIG (default: work_dirs)',
    )
    parser.add_argument(
        '--out',
        metavar='OUT',
        help='folder of the table and the plot, which are overwritten (default: DIR/compare_SUITE)',
    )
    parser.add_argument(
        '--only', metavar='PATTERN', help="configs by name, such as '*_dsnet_t_*' (default: all)"
    )
    parser.add_argument(
        '--seeds', type=at_least_one, default=1, metavar='N', help='runs per config (default: 1)'
    )
    parser.add_argument('--run', action='store_true', help='first train missing or unfinished runs')
    parser.add_argument(
        '--jobs',
        type=at_least_one,
        default=1,
        metavar='N',
        help='parallel trainings, which share the cores and the GPUs (default: 1)',
    )
    parser.add_argument(
        '--gpus', type=at_least_one, metavar='N', help='GPUs per training, with torchrun'
    )
    parser.add_argument('--data-root', metavar='DIR', help="folder of the data, not the configs'")
    add_settings(
        parser, 'replace settings of all configs; pass the same settings later without --run'
    )
    parser.add_argument(
        '--latency', action='store_true', help='measure the time per prediction on this machine'
    )


def run(args: argparse.Namespace) -> None:
    """Train missing runs with --run, then compare all finished runs."""
    import signal
    from functools import cache
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from dsnet_mm.comparison.cost import count_costs
    from dsnet_mm.comparison.plot import plot
    from dsnet_mm.comparison.suites import SUITES
    from dsnet_mm.comparison.summary import Result
    from dsnet_mm.comparison.table import to_csv, to_markdown
    from dsnet_mm.comparison.verdict import answer
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.files import check_folder, written_whole

    if args.gpus is not None and args.jobs > 1:
        raise UserError(f'--jobs {args.jobs} needs trainings on one device; omit --jobs or --gpus')
    out = Path(args.out or Path(args.work_dirs) / f'compare_{args.suite}')
    check_folder(out)
    if args.run:
        check_folder(Path(args.work_dirs))
    suite = SUITES[args.suite]()
    if args.only:
        suite = suite.only(args.only)
    settings = read_settings(args.cfg_options)
    console = Console(soft_wrap=True, highlight=False, markup=False)

    @cache
    def load(entry: Entry) -> Config:
        return load_config(str(entry.config), cfg_options=settings, data_root=args.data_root)

    failures = {}
    if args.run:
        # SIGTERM interrupts like Ctrl-C, so that no training outlives this process
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        failures = train_missing(suite, args, load, console)
        signal.signal(signal.SIGTERM, before)

    rows = read_all(suite, args, load)
    finished = [entry for entry, runs in rows if Result(entry, runs).finished]
    if not finished:
        for _, runs in rows:
            for run in runs:
                console.print(f'{run.name}: {run.state.value}, {run.reason}')
        check_failures(failures)
        raise UserError(
            f'{args.work_dirs} contains no finished run of the suite {args.suite}; train missing '
            'and unfinished runs with --run, or pass the folder of the runs with --work-dirs'
        )
    with console.status('counting') as status, TemporaryDirectory() as folder:
        entries = with_options(finished, load, Path(folder)) if settings else finished
        costs = count_costs(entries, suite.size, args.latency, status.update)
    results = {entry.label: Result(entry, runs, costs.get(entry.label)) for entry, runs in rows}
    answers = [answer(question, results) for question in suite.questions]
    text = to_markdown(suite, results, answers)
    for file, content in (('table.md', text), ('table.csv', to_csv(suite, results))):
        with written_whole(out / file) as draft:
            draft.write_text(content, encoding='utf-8')
    with written_whole(out / 'plot.png') as draft:
        plot(suite, results, draft)
    console.print(text)
    console.print(f'written: {out / "table.md"}, {out / "table.csv"}, {out / "plot.png"}')
    check_failures(failures)


def read_all(
    suite: Suite, args: argparse.Namespace, load: Callable[[Entry], Config]
) -> list[tuple[Entry, list[Run]]]:
    """Find the runs of every entry."""
    from dsnet_mm.comparison.work_dir_reader import find_runs

    work_dirs = Path(args.work_dirs)
    return [(entry, find_runs(work_dirs, entry, args.seeds, load)) for entry in suite.entries]


def train_missing(
    suite: Suite, args: argparse.Namespace, load: Callable[[Entry], Config], console: Console
) -> dict[str, str]:
    """Train missing and unfinished runs, and return the failures by run name."""
    from rich.progress import track

    from dsnet_mm.comparison.scheduler import Launch, to_do, train_all

    if suite.shapes and args.data_root is None:
        console.print(f'data: {suite.data_root}')
        suite.shapes.write(
            suite.data_root,
            progress=lambda images: track(images, 'drawing images', console=console),
        )
    rows = read_all(suite, args, load)
    tasks = to_do([(entry, run) for entry, runs in rows for run in runs], load)
    console.print(f'{counted(len(tasks), "run")} to be trained')
    launch = Launch(args.data_root, args.cfg_options or (), args.gpus, args.jobs)
    return train_all(tasks, launch, console)


def check_failures(failures: Mapping[str, str]) -> None:
    """Raise a UserError that lists the failed trainings, if any."""
    if failures:
        raise UserError(f'{counted(len(failures), "run")} failed: {"; ".join(failures.values())}')


def with_options(
    entries: Sequence[Entry], load: Callable[[Entry], Config], folder: Path
) -> list[Entry]:
    """Write the configs of entries, with the common settings of all runs, into a folder."""
    from dataclasses import replace

    changed = [replace(entry, config=folder / entry.config.name) for entry in entries]
    for entry, written in zip(entries, changed, strict=True):
        load(entry).dump(written.config)
    return changed
