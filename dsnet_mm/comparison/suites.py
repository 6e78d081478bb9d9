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
    """One detector of a suite."""

    config: Path
    detector: str  # such as 'RetinaNet'
    model: str  # the backbone, by the name that tables show
    neck: str = 'FPN'  # 'FPN' or 'DS-FPN'
    schedule: str = '1x'  # such as '1x'; entries of one suite are comparable if it is the same

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
    """A difference in AP between two detectors of a suite."""

    text: str  # the question in words
    model: str  # the label of the first detector
    baseline: str  # the label of the detector whose AP is subtracted
    figure: str = 'box'  # 'box' or 'mask'
    # difference that the paper claims, in percent points; None without a claim
    claimed: float | None = None


@dataclass(frozen=True)
class Part:
    """Detectors that share a table."""

    title: str  # heading of the table
    entries: tuple[Entry, ...]  # the detectors, the first ones trained first
    # models to which every other one is compared, where detector, neck and schedule are the same
    references: tuple[str, ...] = BASELINES


@dataclass(frozen=True)
class Suite:
    """Detectors compared on one dataset."""

    name: str  # value of --suite
    parts: tuple[Part, ...]  # the tables. An entry may be in several of them
    questions: tuple[Question, ...]  # differences that the comparison states beside the tables
    # height and width of the images for which MACs and latency are given, in pixels
    size: tuple[int, int]
    data_root: str  # folder of the data in the configs
    shapes: ShapesDetection | None = None  # synthetic dataset to draw; None if the data must exist

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
    **{
        f'glnet_{size}_{suffix}': (f'GLNet-{size.upper()}', neck)
        for size in ('stl', '4g')
        for suffix, neck in (('fpn', 'FPN'), ('dsfpn', 'DS-FPN'))
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
    labels = {
        (entry.detector, entry.model, entry.neck): entry.label
        for part in parts
        for entry in part.entries
    }
    for prefix, detector, sizes in (
        ('mask_rcnn', 'Mask R-CNN', 's'),
        ('cascade_mask_rcnn', 'Cascade Mask R-CNN', 'tsb'),
    ):
        longer = tuple(
            Entry(
                root / f'{prefix}_{name}_3x_ms_coco.py', detector, model, schedule='3x multi-scale'
            )
            for name, (model, _) in COCO_NAMES.items()
            if name in ('r50_fpn', 'swin_t_fpn', *(f'dsnet_{size}_fpn' for size in sizes))
        )
        parts.append(Part(f'{detector}, 3x with multi-scale training', longer))
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
    questions += [
        Question(
            f'{detector}: {" with ".join(first)} against {" with ".join(second)}, box AP',
            labels[detector, first[0], first[1]],
            labels[detector, second[0], second[1]],
        )
        for detector in DETECTORS.values()
        for first, second in (
            (('DS-Net-S*', 'FPN'), ('DS-Net-S', 'FPN')),
            (('DS-Net-S*', 'DS-FPN'), ('DS-Net-S*', 'FPN')),
            ((R50, 'DS-FPN'), (R50, 'FPN')),
        )
    ]
    return Suite('coco', tuple(parts), tuple(questions), (800, 1280), 'data/coco')


def shapes() -> Suite:
    """Return the small edition: the same comparison on synthetic shapes, from scratch."""
    models = {
        'r50': R50,
        'swin_t': SWIN_T,
        'dsnet_t': 'DS-Net-T*',
        'dsnet_s': 'DS-Net-S*',
        'glnet_stl': 'GLNet-STL',
    }
    variants = {
        'noalign': 'DS-Net-T',
        'alpha000': 'DS-Net-T*, α = 0',
        'alpha025': 'DS-Net-T*, α = 1/4',
        'alpha075': 'DS-Net-T*, α = 3/4',
        'alpha100': 'DS-Net-T*, α = 1',
    }

    def entry(name: str, model: str, neck: str = 'FPN') -> Entry:
        config = f'retinanet_{name}_{neck.lower().replace("-", "")}_shapes.py'
        return Entry(configs_dir() / 'compare' / config, 'RetinaNet', model, neck, SCRATCH)

    main = {
        (name, neck): entry(name, model, neck)
        for neck in ('FPN', 'DS-FPN')
        for name, model in models.items()
    }
    tiny = main['dsnet_t', 'FPN']
    ablations = {name: entry(f'dsnet_t_{name}', model) for name, model in variants.items()}
    questions = [
        Question(
            f'{models[name]} against {models[baseline]}, both with FPN',
            main[name, 'FPN'].label,
            main[baseline, 'FPN'].label,
        )
        for name in ('dsnet_t', 'dsnet_s', 'glnet_stl')
        for baseline in ('r50', 'swin_t')
    ]
    questions += [
        Question(
            f'{model}: DS-FPN against FPN', main[name, 'DS-FPN'].label, main[name, 'FPN'].label
        )
        for name, model in models.items()
    ]
    unaligned = ablations.pop('noalign')
    questions += [
        Question('alignment: DS-Net-T* against DS-Net-T', tiny.label, unaligned.label),
        *(
            Question(f'{variant.model} against α = 1/2', variant.label, tiny.label)
            for variant in ablations.values()
        ),
    ]
    return Suite(
        'shapes',
        (
            Part('RetinaNet on shapes, from scratch', tuple(main.values())),
            Part(
                'DS-Net-T* (α = 1/2, aligned) and what its parts do',
                (tiny, unaligned, *ablations.values()),
                (tiny.model,),
            ),
        ),
        tuple(questions),
        (112, 112),
        'data/shapes_compare',
        ShapesDetection(train=1000, val=200, size=112),
    )


SUITES = {'shapes': shapes, 'coco': coco}  # by the names of --suite
