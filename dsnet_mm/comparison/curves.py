"""Curves of trainings, from the logs that mmengine leaves in their work dirs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from dsnet_mm.errors import UserError

from .runs import Record, is_run, read_records

USUAL = ('loss', 'coco/bbox_mAP', 'coco/segm_mAP', 'accuracy/top1')
STEPS = ('step', 'epoch', 'iter')  # not figures
FEW = 30  # points, which are marked


class Curve(NamedTuple):
    """One figure of one training.

    Attributes:
        unit: Of ``steps``: 'iteration' or 'epoch'.
        steps: When it was logged.
        values: What was logged; numbers only.
    """

    unit: str
    steps: list[float]
    values: list[float]


def plot_curves(folders: Sequence[str | Path], out: str | Path, keys: Sequence[str] = ()) -> None:
    """Draw figures of trainings against iterations, or epochs where they are of evaluations.

    Args:
        folders: Work dirs of the trainings, of which each becomes a line.
        out: Picture to write, of a type that matplotlib knows.
        keys: Names of figures as they stand in the logs, each with axes of its own; by default
            those of :data:`USUAL` that are there.

    Raises:
        UserError: If a folder holds no log, a name is in no log, or the picture cannot be written.
    """
    runs = {str(folder): read_curves(Path(folder)) for folder in folders}
    known = sorted(set(chain.from_iterable(runs.values())))
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise UserError(
            f'no log holds {", ".join(unknown)}; choose from {", ".join(known) or "none"}'
        )
    keys = keys or [key for key in USUAL if key in known]
    if not keys:
        raise UserError(
            f'{", ".join(runs)} have no figures to draw yet; wait for the first iterations to be '
            'logged'
        )
    figure = Figure(figsize=(5.5 * len(keys), 4), layout='constrained')
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for folder, curves in runs.items():
            if key in curves:
                curve = curves[key]
                marker = 'o' if len(curve.values) < FEW else None
                axes.plot(curve.steps, curve.values, label=folder, marker=marker)
                axes.set_xlabel(curve.unit)
        axes.set_ylabel(key)
        axes.grid(alpha=0.3)
        if len(runs) > 1:
            axes.legend(fontsize='small')
    try:
        figure.savefig(out, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(
            f'{out} cannot be written; choose another place or type ({error})'
        ) from error


def read_curves(folder: Path) -> dict[str, Curve]:
    """Read all figures that a training logged, those of resumed trainings as one.

    Raises:
        UserError: If the folder is not the work dir of a training.
    """
    if not is_run(folder):
        raise UserError(
            f'{folder} holds no log of a training; give the work dir of tools/train.py, such as '
            'work_dirs/retinanet_dsnet_s_fpn_1x_coco'
        )
    train, evaluations = read_records(folder)
    curves: dict[str, Curve] = {}
    add_points(curves, 'iteration', train)
    add_points(curves, 'epoch', evaluations.values())
    return curves


def add_points(curves: dict[str, Curve], unit: str, records: Iterable[Record]) -> None:
    """Add the numbers of records to the curves of their names."""
    for record in records:
        for key, value in record.items():
            if isinstance(value, (int, float)) and math.isfinite(value) and key not in STEPS:
                curve = curves.setdefault(key, Curve(unit, [], []))
                if curve.unit == unit:  # times are logged of training and of evaluation
                    curve.steps.append(record['step'])
                    curve.values.append(value)
