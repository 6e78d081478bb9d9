"""All checks of a data set in COCO's format."""

from __future__ import annotations

from dataclasses import dataclass

from mmengine.config import Config

from dsnet_mm.data.image_files import Progress

from .annotation_checks import check_entries
from .coco_file import CocoFile, read_coco
from .config_checks import check_config
from .finding import Finding
from .image_checks import check_files
from .sizes import Distribution, Resize, find_resize, measure


@dataclass(frozen=True)
class Report:
    """What is known of a set: what the checks found, and how its objects are spread."""

    coco: CocoFile
    findings: tuple[Finding, ...]
    distribution: Distribution

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that make the set faulty."""
        return tuple(finding for finding in self.findings if finding.fails)


def check_set(
    ann_file: str,
    folder: str,
    cfg: Config | None = None,
    decode: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check a set: what stands in its file, its images, and the config that is to read it.

    Args:
        ann_file: Annotation file in COCO's format.
        folder: Folder to which the file names in it are relative.
        cfg: Config whose classes, heads and pipelines the set is compared with.
        decode: Whether to decode all images instead of reading their headers.
        progress: Shows how far the opening of images is.

    Raises:
        UserError: If the file is not in COCO's format, or the folder is none.
    """
    coco = read_coco(ann_file)
    resize: Resize | None = find_resize(cfg) if cfg else None
    findings = [
        *check_entries(coco),
        *(check_config(coco, cfg) if cfg else ()),
        *check_files(coco, folder, decode, progress),
    ]
    return Report(coco, tuple(findings), measure(coco, resize))
