"""Write synthetic datasets atomically, without overwriting files of others."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dsnet_mm.errors import UserError

GENERATOR = 'dsnet_mm.data.shapes'
VERSION = '1'
"""Version of the drawing; increase it when a seed produces different files than before."""

SPLITS = ('train', 'val')
MIN_SIZE = 32
_PARTIAL = '.dsnet_mm_partial'  # folder inside the root for an unfinished dataset

Progress = Callable[[Sequence[tuple[str, int]]], Iterable[tuple[str, int]]]
Counts = dict[str, Counter[tuple[str, str]]]


@dataclass(frozen=True)
class ShapesSet(ABC):
    """Generate a synthetic dataset; equal options give byte-identical files.

    Args:
        train: Number of training images.
        val: Number of validation images.
        size: Height and width of an image, in pixels.
        seed: Each image has its own random stream, so the first images do not depend on the number
            of images.

    Raises:
        UserError: If an option is out of range.
    """

    train: int
    val: int
    size: int
    seed: int

    task: ClassVar[str]
    stream: ClassVar[int]
    """Number that separates the random streams of different kinds of datasets."""
    entries: ClassVar[tuple[str, ...]]
    """Files and folders in the root; the last one contains ``record`` and marks completion."""
    record: ClassVar[str]
    """JSON file in the root whose ``info`` contains the options of the dataset."""

    def __post_init__(self) -> None:
        for name, least in (('train', 1), ('val', 1), ('size', MIN_SIZE), ('seed', 0)):
            value = getattr(self, name)
            if value < least:
                raise UserError(
                    f'--{name} is {value} but must be at least {least}; pass a larger number'
                )

    @abstractmethod
    def files(self) -> list[str]:
        """Return every file of the dataset, relative to its root."""

    @abstractmethod
    def count(self, root: str | Path) -> Counts:
        """Count the objects of the dataset in ``root``: by split, then by (class, size)."""

    @abstractmethod
    def _draw(self, folder: Path, progress: Progress) -> None:
        """Write all files into the empty ``folder``."""

    @property
    def info(self) -> dict[str, Any]:
        """Return the generator, version and options that the dataset records."""
        return dict(
            description=f'Synthetic shapes for {self.task}',
            generator=GENERATOR,
            version=VERSION,
            seed=self.seed,
            options=dict(task=self.task, **asdict(self)),
        )

    def write(self, root: str | Path, force: bool = False, progress: Progress = iter) -> bool:
        """Write the dataset unless ``root`` already contains it.

        Args:
            root: Folder of the dataset, created if missing.
            force: Replace :attr:`entries` in ``root``. Other files are never touched.
            progress: Wraps the sequence of (split, index) to show the progress.

        Returns:
            Whether the dataset was written; False if it already existed.

        Raises:
            UserError: If ``root`` contains anything else and ``force`` is false, or if ``root``
                is not writable.
        """
        root = Path(root)
        try:
            if not force and root.exists() and any(p.name != _PARTIAL for p in root.iterdir()):
                self._check_same(root)
                return False
            partial = root / _PARTIAL
            _remove(partial)  # left by a run that was killed
            partial.mkdir(parents=True)
            try:
                self._draw(partial, progress)
                for entry in reversed(self.entries):
                    _remove(root / entry)
                for entry in self.entries:
                    (partial / entry).rename(root / entry)
            finally:
                _remove(partial)
        except OSError as error:
            raise UserError(
                f'cannot write {error.filename or root} ({error.strerror}); choose another folder '
                'with --root'
            ) from error
        return True

    def _check_same(self, root: Path) -> None:
        """Raise a UserError unless ``root`` contains the complete dataset of these options."""
        advice = 'choose another folder with --root, or pass --force to replace'
        try:
            info = json.loads((root / self.record).read_text())['info']
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            info = None
        if not isinstance(info, dict) or info.get('generator') != GENERATOR:
            raise UserError(
                f'{root} is not a folder of synthetic shapes; {advice} '
                f'{", ".join(self.entries)} in this folder'
            )
        if info != self.info:
            raise UserError(
                f'{root} contains a dataset drawn with {_describe(info)}, not with '
                f'{_describe(self.info)}; {advice} the dataset'
            )
        missing = [name for name in self.files() if not (root / name).is_file()]
        if missing:
            raise UserError(
                f'{root} lacks {len(missing)} files of its dataset, such as {missing[0]}; pass '
                '--force to draw it again'
            )

    def _random(self, split: str, index: int) -> np.random.Generator:
        """Return the random generator of one image, independent of all other images."""
        key = (self.stream, SPLITS.index(split), index)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def _images(self) -> list[tuple[str, int]]:
        return [(split, index) for split in SPLITS for index in range(getattr(self, split))]


def _describe(info: dict[str, Any]) -> str:
    options = ', '.join(f'{k}={v}' for k, v in info.get('options', {}).items())
    return f'{options} (version {info.get("version")})'


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
