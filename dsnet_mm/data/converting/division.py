"""Divide images into training and validation, the same way in each run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from dsnet_mm.errors import UserError, counted
from dsnet_mm.files import check_folder


def check_share(val: float) -> None:
    """Check the share of the images for validation.

    Raises:
        UserError: If it is not a share.
    """
    if not 0 <= val < 1:
        raise UserError(f'--val is {val:g} but must be at least 0 and below 1, such as 0.2')


def divide(names: Sequence[str], val: float, seed: int) -> set[str]:
    """Return the names of the images for validation, about the share ``val`` of all names.

    Whether an image is chosen depends on its name and the seed only, so that more images in the
    dataset change nothing for the others.

    Raises:
        UserError: If there are fewer than two images.
    """
    ranks = {name: _rank(name, seed) for name in names}
    if len(ranks) < 2:
        raise UserError(
            f'--val {val:g} leaves none of {counted(len(names), "image")} for training; add images'
        )
    ordered = sorted(ranks, key=ranks.__getitem__)
    chosen = {name for name in ordered if ranks[name] < val}
    # very few images may have no rank below the share, or none above
    return (chosen | {ordered[0]}) - {ordered[-1]}


def _rank(name: str, seed: int) -> float:
    """Return a number from 0 to 1."""
    digest = hashlib.sha256(f'{seed}:{name}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') / 2**64


def check_target(target: Path, files: Iterable[Path], force: bool) -> None:
    """Check that the annotation files can be written.

    Raises:
        UserError: If not, or if a file exists and ``force`` is not set.
    """
    if target.suffix == '.json' or target.is_file():
        raise UserError(f'{target} is not a folder; pass a folder for the annotation files')
    check_folder(target)
    existing = [file for file in files if file.exists()]
    if existing and not force:
        raise UserError(f'{existing[0]} already exists; choose another folder or pass --force')
