"""Fixtures of the tests of datasets."""

from __future__ import annotations

import pytest

from helpers.datasets import copy_of_shapes


@pytest.fixture
def small_dataset(shapes_root, tmp_path):
    return copy_of_shapes(shapes_root, tmp_path)
