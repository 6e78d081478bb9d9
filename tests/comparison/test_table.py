"""Test the table, the CSV file and the plot."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from dsnet_mm.comparison.plot import plot
from dsnet_mm.comparison.suites import Part, Question, Suite
from dsnet_mm.comparison.summary import Result
from dsnet_mm.comparison.table import to_csv, to_markdown
from dsnet_mm.comparison.verdict import answer
from dsnet_mm.comparison.work_dir_reader import Run, State
from helpers.recorded_runs import entry, finished, table_rows


@pytest.fixture
def small_suite():
    """A suite of made-up detectors, and what became of them."""
    rows = [
        finished('r50_fpn', 36.0, 37.0, model='ResNet-50'),
        finished('swin_fpn', 41.5, model='Swin-T'),
        finished('s_fpn', 42.0, 44.0),
        finished('s_dsfpn', 45.0, neck='DS-FPN'),
    ]
    late = Result(
        entry('late'), [Run('late', Path('late'), 0, State.UNFINISHED, '1 of 3 epochs are trained')]
    )
    results = {result.entry.label: result for result in [*rows, late]}
    part = Part('All', tuple(result.entry for result in results.values()))
    questions = (
        Question('S against R50', 's_fpn', 'r50_fpn', 'box', 6.4),
        Question('late against R50', 'late', 'r50_fpn', 'box', 6.1),
        Question('S: DS-FPN against FPN', 's_dsfpn', 's_fpn'),
    )
    suite = Suite('made up', (part,), questions, (800, 1280), 'nowhere')
    return suite, results


def test_table(small_suite):
    suite, results = small_suite
    text = to_markdown(suite, results, [answer(q, results) for q in suite.questions])
    rows = table_rows(text, 'All')
    assert [row['Model'] for row in rows] == ['ResNet-50', 'Swin-T', 'DS-Net-S*', 'DS-Net-S*']
    last, other = rows[2], rows[3]
    assert (last['runs'], last['box AP']) == ('2', '43.0 ± 1.4')
    assert (last['box AP against ResNet-50'], last['box AP against Swin-T']) == ('+6.5', '+1.5')
    assert (last['published box AP'], last['M parameters'], last['G MACs']) == (
        '42.9', '32.74', '281.50')  # fmt: skip
    assert last['training in h'] == '1.00 ± 0.00'
    # no baseline has this neck, and the published figures belong to another
    assert (other['box AP against ResNet-50'], other['published box AP']) == ('-', '-')
    assert not any('mask' in name or 'latency' in name for name in rows[0])
    assert 'Not measured: latency in ms, GPU memory in MB.' in text

    claim, unjudged, free = table_rows(text, 'Differences')
    assert (claim['difference in AP'], claim['claimed'], claim['verdict']) == (
        '+6.5', '+6.4', 'reproduced')  # fmt: skip
    assert unjudged['verdict'] == 'cannot be judged: late is unfinished'
    assert (free['difference in AP'], free['verdict']) == ('+2.0', 'no claim of the paper')
    assert '- late, seed 0: unfinished, 1 of 3 epochs are trained' in text


def test_csv(small_suite):
    suite, results = small_suite
    lines = list(csv.DictReader(to_csv(suite, results).splitlines()))
    assert [line['config'] for line in lines] == ['r50_fpn', 'swin_fpn', 's_fpn', 's_dsfpn']
    line = lines[2]
    assert (line['runs'], line['seeds'], float(line['box_mAP'])) == ('2', '0 1', 43.0)
    assert float(line['box_mAP_spread']) == pytest.approx(math.sqrt(2), abs=1e-5)
    assert float(line['box_mAP_against_ResNet-50']) == 6.5
    assert (line['mask_mAP'], line['latency_s'], line['parameters']) == ('', '', '32740000')


def test_plot(small_suite, tmp_path):
    suite, results = small_suite
    plot(suite, results, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 10_000
