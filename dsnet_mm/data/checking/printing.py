"""Render a report as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.table import Table

from dsnet_mm.data.shapes import SIZE_BINS

from .check import Report
from .finding import Finding
from .sizes import SHARES, Distribution

MOST_CLASSES = 100  # table rows; with more classes, only the most frequent and the rarest


def tables(report: Report) -> Iterator[Table]:
    """Yield the tables of classes, sizes and findings."""
    yield class_table(report.distribution)
    yield size_table(report.distribution)
    yield finding_table(report.findings)


def finding_table(findings: tuple[Finding, ...]) -> Table:
    """Return a table of the checks with the number of faults each."""
    table = Table('check', 'found', '')
    table.columns[1].justify = 'right'
    for finding in findings:
        verdict = 'PROBLEM' if finding.fails else 'note' if finding.count else 'ok'
        table.add_row(finding.title, str(finding.count), verdict)
    return table


def class_table(distribution: Distribution) -> Table:
    """Return a table of the objects per class and COCO size."""
    table = Table('class', 'images', 'objects', *SIZE_BINS, 'crowds')
    for column in table.columns[1:]:
        column.justify = 'right'
    totals = distribution.objects.sum(1)
    order = list(range(len(totals)))
    if len(order) > MOST_CLASSES:
        ranked = np.argsort(-totals, kind='stable')
        order = sorted([*ranked[: MOST_CLASSES // 2], *ranked[-MOST_CLASSES // 2 :]])
    for place in order:
        numbers = [
            distribution.images[place],
            totals[place],
            *distribution.objects[place],
            distribution.crowds[place],
        ]
        table.add_row(distribution.classes[place], *map(str, numbers))
    if len(order) < len(totals):
        table.add_row(f'... {len(totals) - len(order)} classes of medium frequency')
    table.add_section()
    sums = [totals.sum(), *distribution.objects.sum(0), distribution.crowds.sum()]
    table.add_row('all', '', *map(str, sums))
    return table


def size_table(distribution: Distribution) -> Table:
    """Return a table of percentiles of the objects per image and of their sides."""
    names = {0: 'minimum', 50: 'median', 100: 'maximum'}
    table = Table('in pixels', *(names.get(share, f'{share} %') for share in SHARES))
    for column in table.columns[1:]:
        column.justify = 'right'
    table.add_row('objects per image', *map(_number, distribution.per_image))
    for when, rows in distribution.sides.items():
        table.add_section()
        table.add_row(f'{when}:')
        for name, values in rows.items():
            table.add_row(f'  {name}', *map(_number, values))
    return table


def sentences(report: Report) -> Iterator[str]:
    """Yield a sentence for each fault, problems before notes."""
    for finding in report.problems:
        yield f'problem: {finding.sentence()}'
    for finding in report.findings:
        if finding.count and not finding.fails:
            yield f'note: {finding.sentence()}'


def _number(value: float) -> str:
    return '-' if np.isnan(value) else f'{value:.0f}'
