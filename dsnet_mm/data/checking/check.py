"""Run all checks of a dataset in COCO format."""

from __future__ import annotations

from dataclasses import dataclass

from mmengine.config import Config

from dsnet_mm.data.image_files import Progress

from .annotation_checks import check_entries
from .coco_file import CocoFile, read_coco
from .config_checks import check_config, trains_masks
from .finding import Finding
from .image_checks import check_files
from .sizes import Distribution, find_resize, measure
from .small_classes import check_small_classes


@dataclass(frozen=True)
class Report:
    """Hold the findings of all checks and the distribution of the objects."""

    coco: CocoFile
    findings: tuple[Finding, ...]
    distribution: Distribution

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Return the findings that make the dataset faulty."""
        return tuple(finding for finding in self.findings if finding.fails)


def check_set(
    ann_file: str,
    folder: str,
    cfg: Config | None = None,
    decode: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check an annotation file, its images, and a config that reads them.

    Args:
        ann_file: Annotation file in COCO format.
        folder: Folder to which the file names in ``ann_file`` are relative.
        cfg: Config whose classes, heads and pipelines are compared with the dataset.
        decode: Whether to decode all images, see :func:`dsnet_mm.data.image_files.open_image`.
        progress: Wraps the opened images to show the progress.

    Raises:
        UserError: If the file is not in COCO format, or ``folder`` is not a folder.
    """
    coco = read_coco(ann_file)
    findings = [
        *check_entries(coco, masks=cfg is None or trains_masks(cfg)),
        *((*check_config(coco, cfg), *check_small_classes(coco, cfg)) if cfg else ()),
        *check_files(coco, folder, decode, progress),
    ]
    return Report(coco, tuple(findings), measure(coco, find_resize(cfg) if cfg else None))
