"""Class names that look misspelled."""

import pytest
from mmdet.datasets import CocoDataset

from dsnet_mm.data.class_names import rare_classes, similar_names


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


@pytest.mark.parametrize(
    ('counts', 'rare'),
    [
        ([9, 101, 400], [True, False, False]),
        ([10, 101, 400], [False] * 3),
        ([9, 100, 400], [False] * 3),
        ([0, 9, 101, 400], [False, True, False, False]),
        ([0, 0], [False] * 2),
        ([], []),
    ],
)
def test_rare_classes(counts, rare):
    """Fewer than 10 objects are few, if the median of the classes with objects exceeds 100."""
    assert rare_classes(counts).tolist() == rare
