"""Read what became of a training from `run.json` in its work dir."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dsnet_mm.engine import run_file
from dsnet_mm.engine.checkpoint import checkpoints_in
from dsnet_mm.engine.run_file import RUN_FILE, RunFile, plain

from .suites import Entry

FIGURES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""The six AP figures of COCO, as mmdet names them after ``coco/bbox_`` and ``coco/segm_``."""

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
# paths, and settings that change neither the training nor its AP
INCIDENTAL = re.compile(
    r'(^|\.)(data_root|ann_file|data_prefix|num_workers|persistent_workers)\b'
    r'|^val_dataloader\.batch_size$'
)


class State(str, Enum):
    """How far a run got."""

    MISSING = 'missing'
    UNFINISHED = 'unfinished'
    DIVERGED = 'diverged'
    FINISHED = 'finished'


@dataclass(frozen=True)
class Run:
    """One training of one detector."""

    label: str  # label of the entry that was trained
    folder: Path  # work dir
    seed: int | None = None  # None if unknown
    state: State = State.MISSING  # how far the run got; only a finished run counts
    reason: str = ''  # why the run does not count, for a reader; '' if it counts
    # AP in percent after the last epoch, as ``ap['box']['mAP_50']``; NaN if the dataset has no such
    # objects. Empty unless the run is finished
    ap: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float | None = None  # time of all epochs, without evaluation; None if unknown
    memory: float | None = None  # peak memory of a GPU in MB; None on a CPU
    altered: tuple[str, ...] = ()  # settings that differ from the entry's config

    @property
    def name(self) -> str:
        """Label and seed, for a reader."""
        return self.label if self.seed is None else f'{self.label}, seed {self.seed}'


def find_runs(
    work_dirs: Path, entry: Entry, seeds: int, load: Callable[[Entry], Config]
) -> list[Run]:
    """Read all runs of an entry, and add a missing run for each seed that lacks one.

    A run is in ``<label>/seed_<n>``, or in ``<label>`` itself, the default of `dsnet-mm train`.
    Reading a config is slow, so ``load`` is called only if there are runs.
    """
    folder = work_dirs / entry.label
    found = [folder] if is_run(folder) else []
    found += sorted(filter(is_run, folder.glob('seed_*')), key=lambda path: (len(str(path)), path))
    runs = [read_run(path, entry.label, load(entry)) for path in found]
    trained = {run.seed for run in runs}  # a second run with the same seed adds nothing
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
    """Return whether a folder is the work dir of a training."""
    return (folder / RUN_FILE).is_file() or bool(checkpoints_in(folder))


def read_run(folder: Path, label: str, config: Config) -> Run:
    """Read the work dir of a detector by its label and its config."""
    facts, max_epochs = RunFile.read(folder), config.train_cfg.max_epochs
    if facts is None:
        match = re.fullmatch(r'seed_(\d+)', folder.name)
        reason = (
            f'{folder} has checkpoints but no readable {RUN_FILE}, which `dsnet-mm train` writes '
            'since version 0.2; train the config with --resume to evaluate the last checkpoint'
        )
        return Run(label, folder, int(match[1]) if match else None, State.UNFINISHED, reason)
    run = partial(
        Run,
        label,
        folder,
        facts.seed,
        seconds=training_seconds(facts),
        memory=max((e['memory'] for e in facts.epochs if e['memory'] is not None), default=None),
        altered=alterations(facts, config),
    )
    if facts.state is run_file.State.STOPPED:
        return run(state=State.DIVERGED, reason=facts.reason)
    for epoch in facts.epochs:
        if epoch['loss'] is not None and not math.isfinite(float(epoch['loss'])):
            reason = f'the loss is {epoch["loss"]} at the end of epoch {epoch["epoch"]}'
            return run(state=State.DIVERGED, reason=reason)
    last = {evaluation['epoch']: evaluation['metrics'] for evaluation in facts.evaluations}
    if max_epochs not in last:
        reason = f'{facts.epoch} of {max_epochs} epochs are trained'
        if facts.epoch >= max_epochs:
            reason += ', but the last epoch is not evaluated'
        if facts.reason:
            reason += f' ({facts.state.value}: {facts.reason})'
        return run(state=State.UNFINISHED, reason=reason)
    metrics = last[max_epochs]
    ap = {
        kind: {name: percent(metrics.get(f'coco/{prefix}_{name}')) for name in FIGURES}
        for kind, prefix in KINDS.items()
        if kind == 'box' or 'mask_head' in str(config.model) or f'coco/{prefix}_mAP' in metrics
    }
    empty = [kind for kind, figures in ap.items() if math.isnan(figures['mAP'])]
    if empty:
        asked = all(f'coco/{KINDS[kind]}_mAP' in metrics for kind in empty)
        cause = 'the images hold no objects' if asked else 'nothing was detected'
        reason = f'the last evaluation has no {" and no ".join(empty)} AP: {cause}'
        return run(state=State.DIVERGED, reason=reason)
    return run(state=State.FINISHED, ap=ap)


def training_seconds(facts: RunFile) -> float | None:
    """Return the time of all epochs, None if an epoch has no record."""
    if not facts.epochs or len(facts.epochs) < facts.epoch:
        return None
    return sum(epoch['seconds'] for epoch in facts.epochs)


def alterations(facts: RunFile, config: Config) -> tuple[str, ...]:
    """Name the settings of a run that differ from its entry's config."""
    found = []
    scaling = facts.config.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size')
    batches = {epoch['batch_size'] for epoch in facts.epochs}
    if base and not scaling.get('enable'):
        found += [
            f'batches of {batch} images at the learning rate for {base}'
            for batch in sorted(batches - {base, 0})
        ]
    if facts.load_from != config.get('load_from'):
        found.append(f'load_from = {facts.load_from}')
    ran, meant = (
        {key: value for name in SETTINGS for key, value in flatten(cfg.get(name), name)}
        for cfg in (facts.config, plain(config))
    )
    found += [
        f'{key} = {ran.get(key, "omitted")}'
        for key in sorted(ran.keys() | meant.keys())
        if ran.get(key) != meant.get(key) and not INCIDENTAL.search(key)
    ]
    return tuple(found)


def flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the plain values in nested dicts and lists by their dotted names."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from flatten(item, f'{name}.{key}')
    else:
        yield name, value


def percent(value: float | str | None) -> float:
    """Convert a figure of mmdet to percent, and its -1, which means no figure, to NaN."""
    figure = math.nan if value is None else float(value)
    return 100 * figure if figure >= 0 else math.nan
