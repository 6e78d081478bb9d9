"""Detect objects on images and videos; draw them and collect them in COCO format."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from pycocotools import mask as rle
from rich.progress import track

from dsnet_mm.data.pictures import Video, read_image, write_image
from dsnet_mm.errors import UserError

from .checkpoint import check_fit, read_checkpoint


class Predictor:
    """A detector that draws what it finds.

    Args:
        cfg: The detector's config.
        checkpoint: Path of its checkpoint.
        score: Detections below this score are left out.
        device: Such as 'cpu' or 'cuda:0', by default the first GPU if there is one.

    Raises:
        UserError: If the checkpoint cannot be read or belongs to another model.
    """

    def __init__(
        self, cfg: Config, checkpoint: str, score: float = 0.3, device: str | None = None
    ) -> None:
        try:
            torch.zeros(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f'this machine has no device {device}; pass --device cpu, or cuda:0 for a GPU'
            ) from error
        weights = read_checkpoint(checkpoint)
        if cfg.get('default_scope') != 'mmdet' or 'test_dataloader' not in cfg:
            raise UserError(
                f'{cfg.filename} is not the config of a detector; pass one, such as a RetinaNet'
            )
        _keep_scores_from(score, cfg.model.get('test_cfg'))
        # backends would store the drawings in a work dir
        cfg.get('visualizer', {}).pop('vis_backends', None)
        with contextlib.redirect_stdout(io.StringIO()):  # mmengine prints the checkpoint's path
            self.inferencer = DetInferencer(cfg, checkpoint, device=device, show_progress=False)
        check_fit(self.inferencer.model, weights['state_dict'], checkpoint)
        self.score = score

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes in the checkpoint."""
        return self.inferencer.model.dataset_meta['classes']

    def __call__(self, image: np.ndarray) -> tuple[DetDataSample, np.ndarray]:
        """Detect objects on an image.

        Args:
            image: (H, W, 3), blue, green, red, 0 to 255.

        Returns:
            The detections, and a copy of the image with them drawn on it.
        """
        found = self.inferencer(image, return_datasamples=True)['predictions'][0].cpu()
        found.pred_instances = found.pred_instances[found.pred_instances.scores >= self.score]
        visualizer = self.inferencer.visualizer
        drawn = found.clone()  # the highest score on top
        drawn.pred_instances = found.pred_instances[found.pred_instances.scores.argsort()]
        visualizer.add_datasample(
            'prediction',
            mmcv.bgr2rgb(image),
            drawn,
            draw_gt=False,
            show=False,
            pred_score_thr=self.score,
        )
        return found, mmcv.rgb2bgr(visualizer.get_image())


@dataclass
class CocoResults:
    """Detections in COCO format: images, categories, and annotations with scores.

    Attributes:
        classes: The names of the classes; the categories are numbered from 1 on in their order.
    """

    classes: Sequence[str]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, found: DetDataSample) -> None:
        """Add the detections on the image ``name``."""
        height, width = found.ori_shape
        image_id = len(self.images) + 1
        self.images.append(dict(id=image_id, file_name=name, height=height, width=width))
        instances = found.pred_instances
        for index in range(len(instances)):
            left, top, right, bottom = instances.bboxes[index].tolist()
            annotation = dict(
                id=len(self.annotations) + 1,
                image_id=image_id,
                category_id=int(instances.labels[index]) + 1,
                bbox=[left, top, right - left, bottom - top],
                area=(right - left) * (bottom - top),
                iscrowd=0,
                score=float(instances.scores[index]),
            )
            if 'masks' in instances:
                mask = np.asfortranarray(instances.masks[index].numpy(), dtype=np.uint8)
                encoded = rle.encode(mask)
                annotation['segmentation'] = dict(
                    size=list(encoded['size']), counts=encoded['counts'].decode('ascii')
                )
                annotation['area'] = float(rle.area(encoded))
            self.annotations.append(annotation)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of a COCO JSON file."""
        categories = [dict(id=i, name=name) for i, name in enumerate(self.classes, start=1)]
        return dict(images=self.images, annotations=self.annotations, categories=categories)


def on_images(paths: Sequence[Path], root: Path, pictures: Path, predictor: Predictor,
              results: CocoResults) -> int:  # fmt: skip
    """Detect on images and draw them; return the number of unreadable images."""
    skipped = 0
    for path in track(paths, 'detecting'):
        try:
            image = read_image(path)
        except UserError as error:
            if len(paths) == 1:
                raise
            print(f'skipped: {error}', file=sys.stderr)
            skipped += 1
            continue
        name = path.relative_to(root).as_posix()
        found, drawn = predictor(image)
        results.add(name, found)
        write_image(pictures / name, drawn)
    return skipped


def on_frames(video: Video, predictor: Predictor, results: CocoResults) -> Iterator[np.ndarray]:
    """Detect on the frames of a video and yield them with the detections drawn."""
    for number, frame in enumerate(track(video, 'detecting', total=len(video) or None)):
        found, drawn = predictor(frame)
        results.add(f'{number:06d}.jpg', found)
        yield drawn


def _keep_scores_from(score: float, test_cfg: Any) -> None:
    """Lower every threshold of a test_cfg, below which mmdet drops detections, to ``score``."""
    for key, value in (test_cfg or {}).items():
        if isinstance(value, dict):
            _keep_scores_from(score, value)
        elif key == 'score_thr':
            test_cfg[key] = min(value, score)
