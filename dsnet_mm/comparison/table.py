"""Write the results of a comparison as Markdown for readers and as CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

from dsnet_mm.analysis.tables import markdown
from dsnet_mm.errors import listing

from .suites import Entry, Part, Suite
from .summary import Result, Summary, pooled_spread
from .verdict import SPREAD, Answer
from .work_dir_reader import FIGURES, KINDS, State

HEADINGS = dict(zip(FIGURES, ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl'), strict=True))
NOTHING = '-'


def to_markdown(suite: Suite, results: Mapping[str, Result], answers: Sequence[Answer]) -> str:
    """Lay out tables, verdicts, and the runs that do not count; the results have labels."""
    parts = [f'# Comparison: {suite.name}']
    for part in suite.parts:
        rows = [results[entry.label] for entry in part.entries if results[entry.label].finished]
        parts.append(f'## {part.title}')
        parts.append(part_table(part, rows, results) if rows else 'No run is finished.')
    parts += ['## Differences', answers_table(answers)]
    parts.append(_reading(suite, results, answers))
    uncounted = [
        f'- {run.name}: {run.state.value}, {run.reason}'
        for result in results.values()
        for run in result.runs
        if run.state is not State.FINISHED
    ]
    if uncounted:
        parts += ['## Not counted', '\n'.join(uncounted)]
    altered = [
        f'- {run.name}: {listing(run.altered)}'
        for result in results.values()
        for run in result.finished
        if run.altered
    ]
    if altered:
        title = '## Counted, but with other settings than the config'
        parts += [title, '\n'.join(altered)]
    sources = [
        f'- {entry.detector} {entry.model}, {entry.schedule}: {entry.published.source}'
        for entry in suite.entries
        if entry.published and results[entry.label].finished
    ]
    if sources:
        parts += ['## Sources of the published figures', '\n'.join(sources)]
    return '\n\n'.join(parts) + '\n'


def part_table(part: Part, rows: Sequence[Result], results: Mapping[str, Result]) -> str:
    """Lay out the detectors of one part; columns without any figure are omitted."""
    columns: dict[str, list[str]] = {
        'Model': [row.entry.model for row in rows],
        'neck': [row.entry.neck for row in rows],
        'runs': [str(len(row.finished)) for row in rows],
    }
    for kind in KINDS:
        for figure, heading in HEADINGS.items():
            columns[f'{kind} {heading}'] = [summary(row.ap(kind, figure)) for row in rows]
        columns[f'published {kind} AP'] = [
            number(getattr(row.entry.published, kind, None)) for row in rows
        ]
        for reference in part.references:
            columns[f'{kind} AP against {reference}'] = [
                points(difference(row, reference_of(row.entry, reference, results), kind))
                for row in rows
            ]
    costs = [row.cost for row in rows]
    columns |= {
        'M parameters': [number(cost.parameters / 1e6 if cost else None, 2) for cost in costs],
        'G MACs': [number(cost.macs / 1e9 if cost else None, 2) for cost in costs],
        'latency in ms': [
            number(1e3 * cost.latency if cost and cost.latency else None) for cost in costs
        ],
        'GPU memory in MB': [number(row.memory, 0) for row in rows],
        'training in h': [summary(row.seconds, 1 / 3600, 2) for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if set(cells) != {NOTHING}}
    left_out = [name for name in ('latency in ms', 'GPU memory in MB') if name not in shown]
    table = markdown(list(shown), zip(*shown.values(), strict=True))
    return table + (f'\n\nNot measured: {", ".join(left_out)}.' if left_out else '')


def answers_table(answers: Sequence[Answer]) -> str:
    """Lay out the questions, with the claims of the paper and verdicts."""
    claims = any(answer.question.claimed is not None for answer in answers)
    header = ['Question', 'difference in AP', 'standard error', 'runs']
    rows = []
    for answer in answers:
        cells = [
            answer.question.text,
            points(answer.difference),
            number(answer.error, 2),
            f'{answer.model.count} and {answer.baseline.count}',
        ]
        if claims and answer.question.claimed is not None:
            cells += [
                points(answer.question.claimed),
                number(answer.tolerance),
                '; '.join(filter(None, (answer.verdict, answer.caveat))),
            ]
        elif claims:
            cells += [NOTHING, NOTHING, answer.obstacle or 'no claim of the paper']
        else:
            cells.append(answer.obstacle or NOTHING)
        rows.append(cells)
    header += ['claimed', 'tolerance', 'verdict'] if claims else ['remark']
    return markdown(header, rows)


def to_csv(suite: Suite, results: Mapping[str, Result]) -> str:
    """Lay out one line for each detector with a finished run; unknown figures are empty."""
    lines = []
    for entry in suite.entries:
        row = results[entry.label]
        if not row.finished:
            continue
        line: dict[str, object] = dict(
            config=entry.label,
            detector=entry.detector,
            model=entry.model,
            neck=entry.neck,
            schedule=entry.schedule,
            runs=len(row.finished),
            seeds=' '.join(str(run.seed) for run in row.finished),
        )
        for kind in KINDS:
            for figure in FIGURES:
                ap = row.ap(kind, figure)
                line[f'{kind}_{figure}'] = _plain(ap.mean)
                line[f'{kind}_{figure}_spread'] = _plain(ap.spread)
            line[f'published_{kind}_mAP'] = _plain(getattr(entry.published, kind, None))
        for part in suite.parts:
            for reference in part.references if entry in part.entries else ():
                for kind in KINDS:
                    other = reference_of(entry, reference, results)
                    line[f'{kind}_mAP_against_{reference}'] = _plain(difference(row, other, kind))
        line |= dict(
            parameters=row.cost and row.cost.parameters,
            macs=row.cost and row.cost.macs,
            latency_s=_plain(row.cost.latency if row.cost else None),
            gpu_memory_mb=_plain(row.memory),
            training_s=_plain(row.seconds.mean),
            training_s_spread=_plain(row.seconds.spread),
        )
        lines.append(line)
    names = dict.fromkeys(name for line in lines for name in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def reference_of(entry: Entry, model: str, results: Mapping[str, Result]) -> Result | None:
    """Return the result of ``model`` in the same detector, neck and schedule, if there is one."""
    place = entry.detector, entry.neck, entry.schedule
    for result in results.values():
        other = result.entry
        if (other.detector, other.neck, other.schedule, other.model) == (*place, model):
            return result if other != entry else None
    return None


def difference(row: Result, reference: Result | None, kind: str) -> float:
    """Return the difference in AP in percent points, NaN if unknown."""
    return row.ap(kind).mean - reference.ap(kind).mean if reference else math.nan


def summary(value: Summary, factor: float = 1.0, digits: int = 1) -> str:
    """Write a mean, with its spread if known."""
    if not value.count:
        return NOTHING
    text = f'{factor * value.mean:.{digits}f}'
    return text if value.spread is None else f'{text} ± {factor * value.spread:.{digits}f}'


def number(value: float | None, digits: int = 1) -> str:
    """Write a number, or a dash for none."""
    return NOTHING if value is None or math.isnan(value) else f'{value:.{digits}f}'


def points(value: float) -> str:
    """Write a difference with its sign."""
    return NOTHING if math.isnan(value) else f'{value:+.1f}'


def _reading(suite: Suite, results: Mapping[str, Result], answers: Sequence[Answer]) -> str:
    """Explain the figures."""
    text = (
        'AP in percent after the last epoch, as mean ± sample standard deviation of the runs; '
        f'MACs for one image of {suite.size[0]}x{suite.size[1]} pixels; training time without '
        'evaluation.'
    )
    spread = pooled_spread(result.ap('box') for result in results.values())
    if spread is not None:
        text += f' The standard deviation of box AP, pooled over all models, is {spread:.1f}.'
    if any(answer.question.claimed is not None for answer in answers):
        return (
            f'{text} The tolerance is twice the standard error of comparing two differences, with '
            f'a spread of {SPREAD} AP where fewer runs or a smaller spread were measured: a '
            'decision of this project (docs/compare.md).'
        )
    return f'{text} The paper makes no claim about these runs.'


def _plain(value: float | None) -> float | str:
    return '' if value is None or math.isnan(value) else round(value, 6)
