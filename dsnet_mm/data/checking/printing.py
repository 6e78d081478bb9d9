"""Render a report as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.table import Column, Table

from dsnet_mm.data.shapes import SIZE_BINS

from .check import Report
from .finding import Finding
from .sizes import SHARES, Distribution

MOST_CLASSES = 100  # table rows; with more classes, only the most frequent and the rarest


def tables(report: Report, verbose: bool = False) -> Iterator[Table]:
    """Yield the tables of classes, sizes and findings; with ``verbose``, also of passed checks."""
    yield class_table(report.distribution)
    yield size_table(report.distribution)
    findings = [finding for finding in report.findings if verbose or finding.count]
    if findings:
        yield finding_table(findings)


def passed(report: Report) -> str:
    """Return how many checks found nothing."""
    number = sum(not finding.count for finding in report.findings)
    further = 'further ' if number < len(report.findings) else ''
    return f'{number} {further}check{"s" * (number != 1)} passed'


def finding_table(findings: Sequence[Finding]) -> Table:
    """Return a table of the checks with the number of faults each."""
    table = Table('check', Column('found', justify='right'), '')
    for finding in findings:
        verdict = 'PROBLEM' if finding.fails else 'note' if finding.count else 'ok'
        table.add_row(finding.title, str(finding.count), verdict)
    return table


def class_table(distribution: Distribution) -> Table:
    """Return a table of the objects per class and COCO size."""
    table = _numbers('class', 'images', 'objects', *SIZE_BINS, 'crowds')
    totals = distribution.objects.sum(1)
    order = list(range(len(totals)))
    if len(order) > MOST_CLASSES:
        ranked = np.argsort(-totals, kind='stable')
        order = sorted([*ranked[: MOST_CLASSES // 2], *ranked[-MOST_CLASSES // 2 :]])
    for place in order:
        sizes, crowds = distribution.objects[place], distribution.crowds[place]
        numbers = (distribution.images[place], totals[place], *sizes, crowds)
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
    table = _numbers('in pixels', *(names.get(share, f'{share} %') for share in SHARES))
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


def _numbers(first: str, *others: str) -> Table:
    """Return an empty table whose columns after the first align to the right."""
    return Table(first, *(Column(name, justify='right') for name in others))


def _number(value: float) -> str:
    return '-' if np.isnan(value) else f'{value:.0f}'
