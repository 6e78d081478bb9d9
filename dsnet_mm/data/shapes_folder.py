"""How a synthetic data set reaches the disk: whole or not at all, and over nobody's files."""

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
"""Version of the drawing; it changes whenever the same seed would give other files."""

SPLITS = ('train', 'val')
MIN_SIZE = 32
_PARTIAL = '.dsnet_mm_partial'  # the set while it is being written, inside its root

Progress = Callable[[Sequence[tuple[str, int]]], Iterable[tuple[str, int]]]
Counts = dict[str, Counter[tuple[str, str]]]


@dataclass(frozen=True)
class ShapesSet(ABC):
    """Options of a synthetic data set; the same options give the same files, byte by byte.

    Args:
        train (int): Number of training images.
        val (int): Number of validation images.
        size (int): Height and width of an image, in pixels.
        seed (int): Seed of all random numbers. Each image has a stream of its own, so the
            first images stay the same whatever the number of images.

    Raises:
        UserError: If an option is out of range.
    """

    train: int
    val: int
    size: int
    seed: int

    task: ClassVar[str]
    stream: ClassVar[int]
    """Number that keeps the random streams of one kind of set apart from another's."""
    entries: ClassVar[tuple[str, ...]]
    """What the set puts into its root; the last one holds ``record`` and makes it look whole."""
    record: ClassVar[str]
    """JSON file in the root whose ``info`` tells how the set was made."""

    def __post_init__(self) -> None:
        for name, least in (('train', 1), ('val', 1), ('size', MIN_SIZE), ('seed', 0)):
            value = getattr(self, name)
            if value < least:
                raise UserError(
                    f'--{name} is {value}, but must be at least {least}; give a larger number'
                )

    @abstractmethod
    def files(self) -> list[str]:
        """List every file of the set, relative to its root."""

    @abstractmethod
    def count(self, root: str | Path) -> Counts:
        """Count the objects of the set in ``root``: by split, then by (class, size)."""

    @abstractmethod
    def _draw(self, folder: Path, progress: Progress) -> None:
        """Write all files into the empty ``folder``."""

    @property
    def info(self) -> dict[str, Any]:
        """What the files say about their making."""
        return dict(
            description=f'Synthetic shapes for {self.task}',
            generator=GENERATOR,
            version=VERSION,
            seed=self.seed,
            options=dict(task=self.task, **asdict(self)),
        )

    def write(self, root: str | Path, force: bool = False, progress: Progress = iter) -> bool:
        """Write the set, or leave it alone where it already stands.

        Args:
            root (str | Path): Folder of the set, made where it is missing.
            force (bool): Replace what stands in ``root`` under the names of :attr:`entries`.
                Other files there are never touched.
            progress (Callable): Wraps the sequence of (split, index) to show the progress.

        Returns:
            bool: Whether the set was written; False if it stood there already.

        Raises:
            UserError: If ``root`` holds anything else and ``force`` is not given, or cannot
                be written.
        """
        root = Path(root)
        try:
            if not force and root.exists() and any(p.name != _PARTIAL for p in root.iterdir()):
                self._check_same(root)
                return False
            self._replace(root, progress)
        except OSError as error:
            raise UserError(
                f'cannot write {error.filename or root}: {error.strerror}; '
                f'give another folder by --root'
            ) from error
        return True

    def _replace(self, root: Path, progress: Progress) -> None:
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

    def _check_same(self, root: Path) -> None:
        """Raise a UserError unless ``root`` holds the set of exactly these options, whole."""
        advice = 'choose another folder by --root, or add --force to replace'
        try:
            info = json.loads((root / self.record).read_text())['info']
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            info = None
        if not isinstance(info, dict) or info.get('generator') != GENERATOR:
            raise UserError(
                f'{root} holds other files than such a set; {advice} '
                f'{", ".join(self.entries)} in it'
            )
        if info != self.info:
            raise UserError(
                f'{root} holds a set made with {_describe(info)}, not with '
                f'{_describe(self.info)}; {advice} it'
            )
        missing = [name for name in self.files() if not (root / name).is_file()]
        if missing:
            raise UserError(
                f'{root} lacks {len(missing)} files of its set, {missing[0]} '
                f'among them; add --force to write it again'
            )

    def _random(self, split: str, index: int) -> np.random.Generator:
        """The random stream of one image, apart from that of every other one."""
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
    elif path.exists() or path.is_symlink():
        path.unlink()
