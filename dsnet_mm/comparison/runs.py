"""What became of a training: read from the work dir that mmengine's runner leaves."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dsnet_mm.engine.distributed import unfit_batch
from dsnet_mm.engine.faults import NOT_FINITE

from .suites import Entry

FIGURES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""COCO's six, as mmdet names them behind ``coco/bbox_`` and ``coco/segm_``."""

KINDS = dict(box='bbox', mask='segm')
SETTINGS = (
    'model',
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'custom_hooks',
    'val_dataloader',
    'val_evaluator',
)
# where files lie, and what changes neither the training nor its AP
INCIDENTAL = re.compile(
    r'(^|\.)(data_root|ann_file|data_prefix|num_workers|persistent_workers)\b'
    r'|^val_dataloader\.batch_size$'
)
TIMESTAMP = re.compile(r'\d{8}_\d{6}')

Record = Mapping[str, Any]


class State(str, Enum):
    """How far a run came."""

    MISSING = 'missing'
    UNFINISHED = 'unfinished'
    DIVERGED = 'diverged'
    FINISHED = 'finished'


@dataclass(frozen=True)
class Run:
    """One training of one detector.

    Attributes:
        label: Of the entry that was trained.
        folder: Its work dir.
        seed: Seed of its random numbers; None if not known.
        state: How far it came; only a finished run counts.
        reason: Why it does not count, for a reader; '' if it does.
        epochs: Epochs trained.
        max_epochs: Epochs that its config asks for.
        ap: AP in percent after the last epoch, as ``ap['box']['mAP_50']``; NaN where the data
            set has no such objects. Empty unless the run is finished.
        seconds: Time of the training iterations that led to the result, without evaluation.
        memory: Peak memory of a GPU in MB as logged; None on a CPU.
        altered: Settings that were not those of the entry's config, or that they are not known.
    """

    label: str
    folder: Path
    seed: int | None = None
    state: State = State.MISSING
    reason: str = ''
    epochs: int = 0
    max_epochs: int = 0
    ap: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float | None = None
    memory: float | None = None
    altered: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Label and seed, for a reader."""
        return self.label if self.seed is None else f'{self.label}, seed {self.seed}'


def find_runs(
    work_dirs: Path, entry: Entry, seeds: int, load: Callable[[Entry], Config]
) -> list[Run]:
    """Read all runs of an entry, and name as missing what lacks of ``seeds`` of them.

    A run lies in ``<label>/seed_<n>``, or in ``<label>`` itself, where ``tools/train.py`` puts it.

    Args:
        work_dirs: Folder of the work dirs.
        entry: The detector.
        seeds: How many runs are wanted.
        load: Reads the entry's config, with the options that all runs get. It is not called if
            there are no runs: reading many configs takes a while.
    """
    folder = work_dirs / entry.label
    found = [folder] if is_run(folder) else []
    found += sorted(filter(is_run, folder.glob('seed_*')), key=lambda path: (len(str(path)), path))
    runs = [read_run(path, entry.label, load(entry)) for path in found]
    trained = {run.seed for run in runs}  # a second run with the same seed would say nothing new
    free = (
        seed
        for seed in range(seeds + len(runs))
        if seed not in trained and folder / f'seed_{seed}' not in found
    )
    for _, seed in zip(range(seeds - len(runs)), free, strict=False):
        path = folder / f'seed_{seed}'
        runs.append(Run(entry.label, path, seed, reason=f'{path} holds no run'))
    return runs


def is_run(folder: Path) -> bool:
    """Tell whether a folder is the work dir of a training."""
    return any(True for _ in log_folders(folder))


def read_run(folder: Path, label: str, config: Config) -> Run:
    """Read a work dir.

    Args:
        folder: The work dir.
        label: Of the entry that was trained.
        config: The entry's config.
    """
    train, evaluations = read_records(folder)
    max_epochs = config.train_cfg.max_epochs
    dumped = dumped_configs(folder)
    run = dict(
        label=label,
        folder=folder,
        seed=seed_of(folder, dumped[0] if dumped else None),
        epochs=max((record['epoch'] for record in train), default=0),
        max_epochs=max_epochs,
        seconds=training_seconds(train),
        memory=max((record['memory'] for record in train if 'memory' in record), default=None),
        altered=alterations(folder, dumped, config),
    )
    broken = [record for record in train if not math.isfinite(record.get('loss', 0.0))]
    if broken:
        reason = f'the loss is {broken[0]["loss"]} in iteration {broken[0]["step"]}'
        return Run(**run, state=State.DIVERGED, reason=reason)
    if stopped := reason_of_stop(folder):
        return Run(**run, state=State.DIVERGED, reason=stopped)
    last = evaluations.get(max_epochs)
    if last is None:
        # an epoch in which an iteration was logged need not be complete: what is stored is
        run['epochs'] = min(run['epochs'], stored_epochs(folder))
        reason = f'{run["epochs"]} of {max_epochs} epochs are trained'
        if run['epochs'] >= max_epochs:
            reason += ', but the last one is not evaluated'
        return Run(**run, state=State.UNFINISHED, reason=reason)
    ap = {
        kind: {name: percent(last.get(f'coco/{prefix}_{name}')) for name in FIGURES}
        for kind, prefix in KINDS.items()
        if kind == 'box' or 'mask_head' in str(config.model) or f'coco/{prefix}_mAP' in last
    }
    empty = [kind for kind, figures in ap.items() if math.isnan(figures['mAP'])]
    if empty:
        asked = all(f'coco/{KINDS[kind]}_mAP' in last for kind in empty)
        cause = 'the images hold no objects' if asked else 'nothing was detected'
        reason = f'the last evaluation has no {" and no ".join(empty)} AP: {cause}'
        return Run(**run, state=State.DIVERGED, reason=reason)
    return Run(**run, state=State.FINISHED, ap=ap)


def read_records(folder: Path) -> tuple[list[Record], dict[int, Record]]:
    """Read the logs of a work dir, those of a resumed training as one.

    Each start writes a log of its own. What a later one repeats or lets fall counts no more:
    of the earlier logs only what comes before its first iteration is kept.

    Returns:
        The records of training, by iteration, and those of evaluation by epoch.
    """
    train: list[Record] = []
    evaluations: dict[int, Record] = {}
    for path in log_folders(folder):
        records = list(read_log(path))
        trained = [record for record in records if 'epoch' in record]
        if trained:
            train = [record for record in train if record['step'] < trained[0]['step']]
            evaluations = {
                epoch: record
                for epoch, record in evaluations.items()
                if epoch < trained[0]['epoch']
            }
        train += trained
        evaluations |= {record['step']: record for record in records if 'epoch' not in record}
    return train, evaluations


def log_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of the logs in a work dir, the earliest first."""
    for path in sorted(folder.glob('*/vis_data')):
        if TIMESTAMP.fullmatch(path.parent.name):
            yield path


def read_log(vis_data: Path) -> Iterator[Record]:
    """Yield the records of one log; a line cut off by the end of a process is left out."""
    path = vis_data / f'{vis_data.parent.name}.json'
    if not path.exists():
        path = vis_data / 'scalars.json'
    if not path.exists():
        return
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and 'step' in record:
            yield record


def reason_of_stop(folder: Path) -> str:
    """Return why ``StopAtNaNHook`` ended the latest training of a work dir, '' if it did not."""
    for vis_data in reversed(list(log_folders(folder))):
        if stop := re.search(rf'\S+ \S+ {NOT_FINITE} \d+', read_text_log(vis_data)):
            return stop[0]
        if has_trained(vis_data):
            break
    return ''


def has_trained(vis_data: Path) -> bool:
    """Tell whether a log is of a training; tools/test.py writes its own into the same work dir."""
    return any('epoch' in record for record in read_log(vis_data))


def read_text_log(vis_data: Path) -> str:
    """Return what a start told its user, '' if that is not there."""
    path = vis_data.parent / f'{vis_data.parent.name}.log'
    return path.read_text(encoding='utf-8', errors='replace') if path.exists() else ''


def training_seconds(train: Sequence[Record]) -> float | None:
    """Sum up the time of the iterations; each record has the mean since about the one before."""
    total, step = 0.0, 0
    for record in train:
        if 'time' not in record:
            return None
        total += record['time'] * (record['step'] - step)
        step = record['step']
    return total if train else None


def stored_epochs(folder: Path) -> int:
    """Return how many epochs the newest checkpoint holds, 0 if there is none."""
    checkpoint = newest_checkpoint(folder)
    return epoch_of(checkpoint) if checkpoint else 0


def newest_checkpoint(folder: Path, before: int | None = None) -> Path | None:
    """Return the newest checkpoint of a work dir, of those before epoch ``before`` if given.

    A checkpoint newer than the one that mmengine noted as the last was not written to its end.
    """
    note = folder / 'last_checkpoint'
    if not note.is_file():
        return None
    last = epoch_of(Path(note.read_text(encoding='utf-8').strip()))
    stored = {epoch_of(path): path for path in folder.glob('epoch_*.pth')}
    epochs = [epoch for epoch in stored if epoch <= last and (before is None or epoch < before)]
    return stored[max(epochs)] if epochs else None


def epoch_of(checkpoint: Path) -> int:
    """Return the number in the name of a checkpoint, 0 if there is none."""
    match = re.fullmatch(r'epoch_(\d+)', checkpoint.stem)
    return int(match[1]) if match else 0


def dumped_configs(folder: Path) -> list[Config]:
    """Return the configs with which a work dir was trained, that of the latest start first."""
    trainings = reversed([path for path in log_folders(folder) if has_trained(path)])
    beside_logs = [path / 'config.py' for path in trainings if (path / 'config.py').is_file()]
    configs = []
    # that beside the checkpoints is of the last start, which may have been of tools/test.py
    for path in beside_logs or sorted(folder.glob('*.py')):
        try:
            configs.append(Config.fromfile(path, import_custom_modules=False))
        except Exception:  # a config is a program; a damaged one tells nothing
            continue
    return configs


def seed_of(folder: Path, dumped: Config | None) -> int | None:
    """Return the seed of a run, None if it was left to chance."""
    seed = dumped.get('randomness', {}).get('seed') if dumped else None
    match = re.fullmatch(r'seed_(\d+)', folder.name)
    return int(match[1]) if seed is None and match else seed


def alterations(folder: Path, dumped: Sequence[Config], config: Config) -> tuple[str, ...]:
    """Name in what a run was not set as its entry's config, or that it is not known."""
    if not dumped:
        return (f'no config in {folder} tells its settings',)
    latest = dumped[0]
    return (
        altered_batch(folder, latest)
        + altered_start(dumped, config)
        + altered_settings(latest, config)
    )


def altered_settings(dumped: Config, config: Config) -> tuple[str, ...]:
    """Name the settings of a run that are not those of its entry's config."""
    ran, meant = (
        {key: value for name in SETTINGS for key, value in flatten(cfg.get(name), name)}
        for cfg in (dumped, config)
    )
    keys = sorted(ran.keys() | meant.keys())
    return tuple(
        f'{key} = {ran.get(key, "left out")}'
        for key in keys
        if ran.get(key) != meant.get(key) and not INCIDENTAL.search(key)
    )


def altered_start(dumped: Sequence[Config], config: Config) -> tuple[str, ...]:
    """Name the weights of a detector from which a run started, unless they are its config's."""
    start = next((cfg for cfg in dumped if not cfg.get('resume')), config)
    weights = start.get('load_from')
    return () if weights == config.get('load_from') else (f'load_from = {weights}',)


def altered_batch(folder: Path, dumped: Config) -> tuple[str, ...]:
    """Name a batch for which the learning rate of a run is not made; it depends on the GPUs too."""
    for vis_data in log_folders(folder):
        processes = re.search(r'GPU number: (\d+)', read_text_log(vis_data))
        unfit = unfit_batch(dumped, int(processes[1])) if processes else None
        if unfit and has_trained(vis_data):
            return (f'batches of {unfit[0]} images at the learning rate for {unfit[1]}',)
    return ()


def flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the plain values within nested dicts and lists, by their dotted names."""
    if isinstance(value, (dict, list, tuple)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from flatten(item, f'{name}.{key}')
    else:
        yield name, value if not isinstance(value, tuple) else list(value)


def percent(value: float | None) -> float:
    """Turn a figure of mmdet's into percent; NaN for its -1, which says that there is none."""
    if value is None or not math.isfinite(value) or value < 0:
        return math.nan
    return 100 * value
