"""Recorded trainings and results for the tests of the comparison."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from dsnet_mm.comparison.suites import Entry
from dsnet_mm.comparison.summary import Cost, Result
from dsnet_mm.comparison.work_dir_reader import FIGURES, Run, State
from dsnet_mm.engine import run_file
from dsnet_mm.engine.run_file import RunFile, plain

EPOCHS = 3  # of the recorded trainings
CONFIG = Config(dict(model=dict(type='RetinaNet'), train_cfg=dict(max_epochs=EPOCHS)))
MASKS = Config(dict(model=dict(roi_head=dict(mask_head=dict())), train_cfg=dict(max_epochs=EPOCHS)))


def figures(**ap):
    """Metrics as mmdet reports them, all six figures of a kind the same; -1 for no objects."""
    return {
        f'coco/{kind}_{figure}': round(value / 100, 3) if value >= 0 else value
        for kind, value in ap.items()
        for figure in FIGURES
    }


def write_run(folder: Path, epochs=EPOCHS, seed=0, evaluated=True, max_epochs=EPOCHS, config=None,
              **ap):  # fmt: skip
    """Record a training of so many epochs that was evaluated after each of them."""
    config = copy.deepcopy(config or CONFIG)
    config.train_cfg.max_epochs = max_epochs
    facts = RunFile(
        run_file.State.FINISHED if epochs == max_epochs else run_file.State.RUNNING,
        epoch=epochs,
        max_epochs=max_epochs,
        seed=seed,
        batch_size=16,
        config=plain(config),
    )
    for epoch in range(1, epochs + 1):
        facts.epochs.append(
            dict(epoch=epoch, loss=1.5, seconds=10.0, memory=900 + epoch, batch_size=16)
        )
        if evaluated:
            facts.evaluations.append(dict(epoch=epoch, iteration=20 * epoch, metrics=figures(**ap)))
    folder.mkdir(parents=True, exist_ok=True)
    facts.write(folder)
    return folder


def change_run(folder: Path, **facts):
    """Replace facts of a recorded training."""
    replace(RunFile.read(folder), **facts).write(folder)


def entry(label, model='DS-Net-S*', **more):
    return Entry(Path(f'{label}.py'), 'RetinaNet', model, **more)


def finished(label, *box, model='DS-Net-S*', mask=(), **more):
    """A detector whose runs ended with these AP."""
    pairs = [(value, None) for value in box] or [(1.0, value) for value in mask]
    runs = [
        Run(label, Path(label), seed, State.FINISHED, '',
            {'box': {'mAP': b}} | ({} if m is None else {'mask': {'mAP': m}}), 3600.0)
        for seed, (b, m) in enumerate(pairs)
    ]  # fmt: skip
    return Result(entry(label, model, **more), runs, Cost(32_740_000, 281_500_000_000))


def table_rows(text, heading):
    """The rows of the first table behind a heading, as dicts."""
    lines = text.split(f'## {heading}\n\n')[1].splitlines()
    table = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in lines[: lines.index('')]
    ]
    return [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]
