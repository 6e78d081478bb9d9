"""Compare trained detectors: one table, a plot, and a verdict on the paper's claims."""

from __future__ import annotations

import dsnet_mm  # noqa: F401  # isort: skip  # before PyTorch, whose threads it limits

import argparse
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config
from rich.console import Console
from rich.progress import track

from dsnet_mm.comparison.cost import count_costs
from dsnet_mm.comparison.plot import plot
from dsnet_mm.comparison.scheduler import Launch, to_do, train_all
from dsnet_mm.comparison.suites import SUITES, Entry, Suite, get_suite
from dsnet_mm.comparison.summary import Result
from dsnet_mm.comparison.table import to_csv, to_markdown
from dsnet_mm.comparison.verdict import answer
from dsnet_mm.comparison.work_dir_reader import Run, find_runs
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.options import Settings, check_at_least_one
from dsnet_mm.errors import UserError, counted, run_cli
from dsnet_mm.files import check_folder, written_whole


class Options(Settings):
    """Keep options as they are typed, beside what they say."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Add both to what was given before."""
        namespace.options = [*namespace.options, *values]
        super().__call__(parser, namespace, values, option_string)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Only finished runs count; all others are named. docs/compare.md tells what the '
        'outcome says.',
    )
    parser.set_defaults(options=[])
    parser.add_argument(
        '--suite',
        choices=SUITES,
        default='shapes',
        help='small detectors on synthetic shapes, or those of the paper on COCO (default: shapes)',
    )
    parser.add_argument(
        '--work-dirs',
        default='work_dirs',
        metavar='DIR',
        help='folder of the runs, in CONFIG/seed_N or CONFIG each (default: work_dirs)',
    )
    parser.add_argument(
        '--out',
        metavar='OUT',
        help='folder of the table and the plot, which are written anew each time (default: '
        'DIR/compare_SUITE)',
    )
    parser.add_argument(
        '--only', metavar='PATTERN', help="configs by name, such as '*_dsnet_t_*' (default: all)"
    )
    parser.add_argument(
        '--seeds', type=int, default=1, metavar='N', help='runs wanted of each (default: 1)'
    )
    parser.add_argument(
        '--run', action='store_true', help='first train what is missing or was interrupted'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        metavar='N',
        help='trainings at a time, which share the cores and take GPUs in turn (default: 1)',
    )
    parser.add_argument('--gpus', type=int, metavar='N', help='GPUs of a training, by torchrun')
    parser.add_argument('--data-root', metavar='DIR', help="folder of the data, not the configs'")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='replace settings of all configs; the same have to be given without --run',
    )
    parser.add_argument(
        '--latency', action='store_true', help='measure the time of a prediction, on this machine'
    )
    return parser.parse_args()


def read_all(
    suite: Suite, args: argparse.Namespace, load: Callable[[Entry], Config]
) -> list[tuple[Entry, list[Run]]]:
    """Find the runs of every entry."""
    work_dirs = Path(args.work_dirs)
    return [(entry, find_runs(work_dirs, entry, args.seeds, load)) for entry in suite.entries]


def train_missing(
    suite: Suite, args: argparse.Namespace, load: Callable[[Entry], Config], console: Console
) -> dict[str, str]:
    """Train what is missing or unfinished, and return what went wrong by the name of the run."""
    if suite.shapes and args.data_root is None:
        console.print(f'data: {suite.data_root}')
        suite.shapes.write(
            suite.data_root,
            progress=lambda images: track(images, 'drawing images', console=console),
        )
    rows = read_all(suite, args, load)
    tasks = to_do([(entry, run) for entry, runs in rows for run in runs], load)
    console.print(f'{counted(len(tasks), "run")} to be trained')
    return train_all(tasks, Launch(args.data_root, args.options, args.gpus, args.jobs), console)


def check_failures(failures: Mapping[str, str]) -> None:
    """Raise a UserError that says what went wrong with trainings, if anything did."""
    if failures:
        raise UserError(
            f'{counted(len(failures), "run")} of those to be trained failed: '
            f'{"; ".join(failures.values())}'
        )


def with_options(
    entries: Sequence[Entry], load: Callable[[Entry], Config], folder: Path
) -> list[Entry]:
    """Write the configs of entries, with the options that all runs get, into a folder."""
    changed = [replace(entry, config=folder / entry.config.name) for entry in entries]
    for entry, written in zip(entries, changed, strict=True):
        load(entry).dump(written.config)
    return changed


def main() -> None:
    args = parse_args()
    check_at_least_one(args, 'seeds', 'gpus', 'jobs')
    if args.gpus is not None and args.jobs > 1:
        raise UserError(
            f'--jobs {args.jobs} is for trainings on one device; leave out --gpus or it'
        )
    out = Path(args.out or Path(args.work_dirs) / f'compare_{args.suite}')
    check_folder(out)
    if args.run:
        check_folder(Path(args.work_dirs))
    suite = get_suite(args.suite)
    if args.only:
        suite = suite.only(args.only)
    console = Console(soft_wrap=True, highlight=False, markup=False)

    @cache
    def load(entry: Entry) -> Config:
        return load_config(
            str(entry.config), cfg_options=args.cfg_options, data_root=args.data_root
        )

    failures = {}
    if args.run:
        # ended by the system as by a key: the training that runs must not outlive this process
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
            f'none of these runs in {args.work_dirs} is finished, so that there is nothing to '
            'compare; train what is missing or unfinished with --run, or name the folder of the '
            'runs with --work-dirs'
        )
    with console.status('counting') as status, TemporaryDirectory() as folder:
        entries = with_options(finished, load, Path(folder)) if args.options else finished
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


if __name__ == '__main__':
    run_cli(main)
