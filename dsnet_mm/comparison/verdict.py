"""Compare differences in AP with the claims of the paper.

Two trainings that differ in nothing but chance do not end with the same AP. Statements on COCO:

- a standard deviation of 0.1 over three runs of Faster R-CNN with ResNet-50, by
  https://github.com/facebookresearch/Detectron/blob/main/GETTING_STARTED.md
- a gap between runs that is usually less than 0.2, or less than 0.3, by maintainers of mmdet,
  https://github.com/open-mmlab/mmdetection/issues/3624 and .../issues/3496
- 0.3 as within a reasonable range of random variation, by the first author of Mask R-CNN,
  https://github.com/facebookresearch/moco/issues/39
- 35.8 to 36.3 for several runs of RetinaNet, by a user,
  https://github.com/facebookresearch/detectron2/issues/457

:data:`SPREAD` lies between them. A verdict holds one difference of two runs, the paper's, against
another, ours. With a spread of s for each of these four, that of the comparison is s * sqrt(4),
and twice that is the tolerance: 0.6 for single runs. Several seeds narrow our half of it. That
this, and no other, is the tolerance is a decision of this project; the paper states no spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .suites import Question
from .summary import Result, Summary
from .work_dir_reader import State

SPREAD = 0.15
"""Standard deviation of COCO AP over runs, in percent points, where too few were measured."""

REPRODUCED, NOT_REPRODUCED = 'reproduced', 'not reproduced'


@dataclass(frozen=True)
class Answer:
    """The answer to a question."""

    question: Question
    model: Summary  # AP of the first detector in percent
    baseline: Summary  # AP of the second detector in percent
    obstacle: str = ''  # why the question has no answer; '' if it has one
    # labels of the detectors with a run that had other settings than its config
    altered: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """The difference in percent points; NaN if unknown."""
        return self.model.mean - self.baseline.mean

    @property
    def error(self) -> float | None:
        """Standard error of the difference; None if a side has fewer than two runs."""
        sides = self.model, self.baseline
        squares = [side.spread**2 / side.count for side in sides if side.spread is not None]
        return math.sqrt(sum(squares)) if len(squares) == len(sides) else None

    @property
    def tolerance(self) -> float:
        """The largest deviation from the claimed difference that counts as reproduced.

        Spreads measured over few seeds may be small by chance, so none below :data:`SPREAD` is
        believed.
        """
        paper = 2 * SPREAD**2
        ours = sum(
            max(SPREAD, side.spread or 0.0) ** 2 / max(side.count, 1)
            for side in (self.model, self.baseline)
        )
        return 2 * math.sqrt(paper + ours)

    @property
    def verdict(self) -> str:
        """Whether the claim of the paper is reproduced; '' for a question without a claim.

        The first detector must be better, by the claimed difference within the tolerance.
        """
        claimed = self.question.claimed
        if claimed is None:
            return ''
        if self.obstacle:
            return f'cannot be judged: {self.obstacle}'
        return REPRODUCED if self._near(claimed) and self.difference > 0 else NOT_REPRODUCED

    @property
    def caveat(self) -> str:
        """Why the verdict is weak; '' if it is not."""
        claimed = self.question.claimed
        if claimed is None or self.obstacle:
            return ''
        remarks = []
        if claimed <= self.tolerance and self._near(claimed):
            remarks.append(
                'the claim is smaller than the tolerance, so chance alone could decide it'
            )
        if self.altered:
            remarks.append(
                f'runs of {" and ".join(self.altered)} had other settings than their configs'
            )
        return '; '.join(remarks)

    def _near(self, claimed: float) -> bool:
        # the last term is for sums of rounded figures
        return abs(self.difference - claimed) <= self.tolerance + 1e-9


def answer(question: Question, results: Mapping[str, Result]) -> Answer:
    """Answer a question from the results by label, as far as the runs allow."""
    sides = [results[label] for label in (question.model, question.baseline)]
    obstacles = [obstacle for side in sides if (obstacle := _obstacle(side, question.figure))]
    altered = tuple(side.entry.label for side in sides if any(run.altered for run in side.finished))
    model, baseline = (side.ap(question.figure) for side in sides)
    return Answer(question, model, baseline, '; '.join(obstacles), altered)


def _obstacle(result: Result, figure: str) -> str:
    """Return why a detector has no AP, '' if it has one."""
    if result.ap(figure).count:
        return ''
    if not result.runs:
        return f'{result.entry.label} is {State.MISSING.value}'
    states = dict.fromkeys(run.state for run in result.runs)
    words = ' and '.join(state.value for state in states)
    return f'{result.entry.label} is {words}'
