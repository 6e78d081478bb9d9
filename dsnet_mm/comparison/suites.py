"""Define which detectors are compared, and which questions the comparison answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from dsnet_mm.data.shapes import ShapesDetection
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError

from .paper_claims import CLAIMS, PUBLISHED, Published

R50, SWIN_T = 'ResNet-50', 'Swin-T'
BASELINES = (R50, SWIN_T)
SCRATCH = 'from scratch'  # the schedule of the small edition, of which nothing is published


@dataclass(frozen=True)
class Entry:
    """One detector of a suite.

    Attributes:
        config: Its config.
        detector: Such as 'RetinaNet'.
        model: The backbone, by the name that tables show.
        neck: 'FPN' or 'DS-FPN'.
        schedule: Such as '1x'; entries of one suite are comparable if it is the same.
    """

    config: Path
    detector: str
    model: str
    neck: str = 'FPN'
    schedule: str = '1x'

    @property
    def label(self) -> str:
        """The name of the config and of the folder of its runs."""
        return self.config.stem

    @property
    def published(self) -> Published | None:
        """Published figures of this detector; with necks other than FPN, none exist."""
        key = self.detector, self.model, self.schedule
        return PUBLISHED.get(key) if self.neck == 'FPN' else None


@dataclass(frozen=True)
class Question:
    """A difference in AP between two detectors of a suite.

    Attributes:
        text: What is asked, for a reader.
        model: The label of the first detector.
        baseline: The label of the one whose AP is subtracted.
        figure: 'box' or 'mask'.
        claimed: What the paper says the difference is, in percent points; None if it says nothing
            about these runs.
    """

    text: str
    model: str
    baseline: str
    figure: str = 'box'
    claimed: float | None = None


@dataclass(frozen=True)
class Part:
    """Detectors that share a table.

    Attributes:
        title: Heading of the table.
        entries: The detectors, the first ones trained first.
        references: Models to which every other one is compared, where detector, neck and
            schedule are the same.
    """

    title: str
    entries: tuple[Entry, ...]
    references: tuple[str, ...] = BASELINES


@dataclass(frozen=True)
class Suite:
    """Detectors compared on one dataset.

    Attributes:
        name: How it is asked for.
        parts: The tables. An entry may be in several of them.
        questions: What is asked beside the tables.
        size: Height and width of the images for which MACs and latency are given, in pixels.
        data_root: Where the configs expect the data.
        shapes: How the data set is drawn; None if it has to be there.
    """

    name: str
    parts: tuple[Part, ...]
    questions: tuple[Question, ...]
    size: tuple[int, int]
    data_root: str
    shapes: ShapesDetection | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry once, in the order of the parts."""
        return tuple(dict.fromkeys(entry for part in self.parts for entry in part.entries))

    def only(self, pattern: str) -> Suite:
        """Return the suite with only the entries whose label matches a shell pattern.

        Raises:
            UserError: If none does.
        """
        parts = tuple(
            replace(part, entries=tuple(e for e in part.entries if fnmatch(e.label, pattern)))
            for part in self.parts
        )
        suite = replace(self, parts=tuple(part for part in parts if part.entries))
        labels = {entry.label for entry in suite.entries}
        if not labels:
            raise UserError(
                f'no config of the suite {self.name} matches {pattern}; choose from '
                f'{", ".join(entry.label for entry in self.entries)}'
            )
        kept = (q for q in self.questions if {q.model, q.baseline} <= labels)
        return replace(suite, questions=tuple(kept))


COCO_NAMES = {
    'r50_fpn': (R50, 'FPN'),
    'r50_dsfpn': (R50, 'DS-FPN'),
    'swin_t_fpn': (SWIN_T, 'FPN'),
    **{
        f'dsnet_{size}_{suffix}': (f'DS-Net-{size.upper()}{star}', neck)
        for size in 'tsb'
        for suffix, star, neck in (
            ('noalign_fpn', '', 'FPN'),
            ('fpn', '*', 'FPN'),
            ('dsfpn', '*', 'DS-FPN'),
        )
    },
}
DETECTORS = {'retinanet': 'RetinaNet', 'mask_rcnn': 'Mask R-CNN'}


def coco() -> Suite:
    """Return the comparison of the paper, on COCO 2017."""
    root = configs_dir()
    parts = []
    for prefix, detector in DETECTORS.items():
        entries = tuple(
            Entry(root / f'{prefix}_{name}_1x_coco.py', detector, model, neck)
            for name, (model, neck) in COCO_NAMES.items()
        )
        parts.append(Part(f'{detector}, 1x', entries))
    longer = tuple(
        Entry(root / f'mask_rcnn_{name}_fpn_3x_ms_coco.py', 'Mask R-CNN', model, 'FPN', schedule)
        for name, model in (('r50', R50), ('swin_t', SWIN_T), ('dsnet_s', 'DS-Net-S*'))
        for schedule in ('3x multi-scale',)
    )
    parts.append(Part('Mask R-CNN, 3x with multi-scale training', longer))

    labels = {
        (entry.detector, entry.model, entry.neck): entry.label
        for part in parts[:2]
        for entry in part.entries
    }
    questions = [
        Question(
            f'{claim.detector}: {claim.model} against {claim.baseline}, {claim.figure} AP',
            labels[claim.detector, claim.model, 'FPN'],
            labels[claim.detector, claim.baseline, 'FPN'],
            claim.figure,
            claim.points,
        )
        for claim in CLAIMS
    ]
    for detector in DETECTORS.values():
        for first, second, figure in (
            (('DS-Net-S*', 'FPN'), ('DS-Net-S', 'FPN'), 'box'),
            (('DS-Net-S*', 'DS-FPN'), ('DS-Net-S*', 'FPN'), 'box'),
            ((R50, 'DS-FPN'), (R50, 'FPN'), 'box'),
        ):
            questions.append(
                Question(
                    f'{detector}: {" with ".join(first)} against {" with ".join(second)}, '
                    f'{figure} AP',
                    labels[(detector, *first)],
                    labels[(detector, *second)],
                    figure,
                )
            )
    return Suite('coco', tuple(parts), tuple(questions), (800, 1280), 'data/coco')


def shapes() -> Suite:
    """Return the small edition: the same comparison on synthetic shapes, from scratch."""
    root = configs_dir() / 'compare'
    models = {
        'r50': R50,
        'swin_t': SWIN_T,
        'dsnet_t': 'DS-Net-T*',
        'dsnet_s': 'DS-Net-S*',
    }
    necks = {'fpn': 'FPN', 'dsfpn': 'DS-FPN'}
    main = {
        (name, neck): Entry(
            root / f'retinanet_{name}_{neck}_shapes.py',
            'RetinaNet',
            models[name],
            necks[neck],
            SCRATCH,
        )
        for neck in necks
        for name in models
    }
    tiny = main['dsnet_t', 'fpn']
    variants = {
        'noalign': 'DS-Net-T',
        'alpha000': 'DS-Net-T*, α = 0',
        'alpha025': 'DS-Net-T*, α = 1/4',
        'alpha075': 'DS-Net-T*, α = 3/4',
        'alpha100': 'DS-Net-T*, α = 1',
    }
    ablations = {
        name: Entry(
            root / f'retinanet_dsnet_t_{name}_fpn_shapes.py', 'RetinaNet', model, 'FPN', SCRATCH
        )
        for name, model in variants.items()
    }
    questions = [
        Question(
            f'{models[name]} against {models[baseline]}, both with FPN',
            main[name, 'fpn'].label,
            main[baseline, 'fpn'].label,
        )
        for name in ('dsnet_t', 'dsnet_s')
        for baseline in ('r50', 'swin_t')
    ]
    questions += [
        Question(f'{model}: DS-FPN against FPN', main[name, 'dsfpn'].label, main[name, 'fpn'].label)
        for name, model in models.items()
    ]
    questions += [
        Question('alignment: DS-Net-T* against DS-Net-T', tiny.label, ablations['noalign'].label)
    ]
    questions += [
        Question(f'{variants[name]} against α = 1/2', ablations[name].label, tiny.label)
        for name in variants
        if name != 'noalign'
    ]
    return Suite(
        'shapes',
        (
            Part('RetinaNet on shapes, from scratch', tuple(main.values())),
            Part(
                'DS-Net-T* (α = 1/2, aligned) and what its parts do',
                (tiny, *ablations.values()),
                (tiny.model,),
            ),
        ),
        tuple(questions),
        (112, 112),
        'data/shapes_compare',
        ShapesDetection(train=1000, val=200, size=112),
    )


SUITES = {'shapes': shapes, 'coco': coco}


def get_suite(name: str) -> Suite:
    """Return a suite by its name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in SUITES:
        raise UserError(f'the suite {name} does not exist; choose one of {", ".join(SUITES)}')
    return SUITES[name]()
