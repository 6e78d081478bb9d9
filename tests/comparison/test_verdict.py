"""Test means, differences and verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dsnet_mm.comparison.suites import Question
from dsnet_mm.comparison.summary import Result, Summary, pooled_spread
from dsnet_mm.comparison.verdict import Answer, answer
from dsnet_mm.comparison.work_dir_reader import read_run
from helpers.recorded_runs import CONFIG, entry, finished, write_run


def test_mean_and_spread():
    assert Summary.of([40.0, 42.0, 44.0]) == Summary(42.0, 2.0, 3)
    assert Summary.of([40.0, None, math.nan]) == Summary(40.0, None, 1)
    assert Summary.of([]).count == 0


def test_a_pooled_spread_weighs_by_the_runs_beyond_the_first():
    single = Summary(10.0, None, 1)
    pooled = pooled_spread([Summary(40.0, 2.0, 3), single, Summary(20.0, 1.0, 2)])
    assert pooled == pytest.approx(3**0.5)  # (2 x 4 + 1 x 1) / 3
    assert pooled_spread([single, Summary.of([])]) is None


def ask(claimed, model, baseline, figure='box'):
    results = {result.entry.label: result for result in (model, baseline)}
    question = Question('?', model.entry.label, baseline.entry.label, figure, claimed)
    return answer(question, results)


def test_difference_and_its_standard_error():
    found = ask(None, finished('a', 40.0, 42.0, 44.0), finished('b', 30.0, 31.0))
    assert found.difference == pytest.approx(11.5)
    assert found.error == pytest.approx(math.sqrt(4 / 3 + 0.5 / 2))
    assert found.verdict == ''
    assert ask(None, finished('a', 40.0, 42.0), finished('b', 30.0)).error is None


@pytest.mark.parametrize(
    ('spread', 'count', 'tolerance'),
    [
        (None, 1, 0.6),  # 2 * sqrt(4 * 0.15^2)
        (0.3, 4, 0.6),  # 2 * sqrt(2 * 0.15^2 + 2 * 0.3^2 / 4)
        (0.01, 4, 2 * math.sqrt(0.05625)),  # the small spread is not believed
    ],
)
def test_tolerance(spread, count, tolerance):
    side = Summary(40.0, spread, count)
    found = Answer(Question('?', 'a', 'b', 'box', 6.4), side, side)
    assert found.tolerance == pytest.approx(tolerance)


@pytest.mark.parametrize(
    ('ap', 'claimed', 'verdict'),
    [
        (42.9, 6.4, 'reproduced'),
        (42.3, 6.4, 'reproduced'),
        (42.2, 6.4, 'not reproduced'),
        (43.5, 6.4, 'reproduced'),
        (43.6, 6.4, 'not reproduced'),
        (36.6, 0.4, 'reproduced'),
        (36.4, 0.4, 'not reproduced'),  # within the tolerance, but not better
    ],
)
def test_verdict(ap, claimed, verdict):
    found = ask(claimed, finished('a', ap), finished('b', 36.5))
    assert found.verdict == verdict
    assert bool(found.caveat) == (claimed == 0.4)
    assert not ask(0.4, finished('a', 39.0), finished('b', 36.5)).caveat


def test_a_verdict_on_an_altered_run_says_so():
    altered = finished('a', 42.9)
    altered.runs[0] = replace(altered.runs[0], altered=('train_cfg.max_epochs = 24',))
    other = finished('b', 36.5)
    found = ask(6.4, altered, other)
    assert (found.verdict, found.caveat) == (
        'reproduced',
        'runs of a had other settings than their configs',
    )
    assert ask(6.4, other, altered).caveat == found.caveat
    assert ask(6.4, other, other).caveat == ''
    assert not ask(6.4, altered, Result(entry('b'), [])).caveat
    both = ask(0.4, altered, finished('b', 42.5)).caveat
    assert both.endswith(f'could decide it; {found.caveat}')


def test_a_claim_about_masks_is_judged_by_masks():
    better, worse = finished('a', mask=[40.2]), finished('b', mask=[34.7])
    assert ask(5.5, better, worse, 'mask').verdict == 'reproduced'
    assert ask(5.5, better, worse, 'box').verdict == 'not reproduced'


def test_what_keeps_a_claim_from_being_judged_is_named(tmp_path):
    run = read_run(write_run(tmp_path, epochs=2, bbox=40), 'a', CONFIG)
    first = ask(6.4, Result(entry('a'), [run]), finished('b', 36.5))
    assert first.verdict == 'cannot be judged: a is unfinished'
    second = ask(6.4, finished('a', 42.9), Result(entry('b'), []))
    assert second.verdict == 'cannot be judged: b is missing'
