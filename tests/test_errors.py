"""Test the words of error messages."""

from __future__ import annotations

from dsnet_mm.errors import counted


def test_counting():
    assert [counted(number, 'image') for number in (0, 1, 2)] == ['0 images', '1 image', '2 images']
    assert [counted(number, 'pass', 'passes') for number in (1, 2)] == ['1 pass', '2 passes']
