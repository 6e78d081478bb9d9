"""Class names that look misspelled."""

import pytest
from mmdet.datasets import CocoDataset

from dsnet_mm.data.class_names import rare_names, similar_names


@pytest.mark.parametrize(
    ('one', 'two'),
    [('person', 'persn'), ('Cup', 'cup'), ('traffic light', 'trafic ligt'), ('hot dog', 'hotdog')],
)
def test_similar_names(one, two):
    assert similar_names(['zebra', one, 'key', two]) == [(one, two)]


def test_names_that_are_meant_to_differ():
    assert similar_names(['size 1', 'size 2', 'cat', 'car', 'male', 'female', '杯子', '瓶子']) == []
    assert similar_names(CocoDataset.METAINFO['classes']) == []


def test_swapped_letters_are_one_difference():
    assert similar_names(['bottle', 'bottel', 'kettle']) == [('bottle', 'bottel')]


def test_rare_names():
    """A class is rare with fewer than 10 objects, if the median exceeds 100."""
    counts = dict(cup=500, key=101, pen=9, fork=10, none=0, pan=400, pot=300)
    assert rare_names(counts) == ['pen']
    assert rare_names({**counts, 'key': 100}) == []
    assert rare_names({}) == []
