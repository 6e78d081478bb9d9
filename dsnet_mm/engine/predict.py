"""Detect objects on images with a model of mmdet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config

from dsnet_mm.data.checking.config_checks import head_classes
from dsnet_mm.data.class_colors import Color
from dsnet_mm.data.drawn_classes import palette_of
from dsnet_mm.data.locate import find_datasets
from dsnet_mm.data.pictures import loses_a_side, too_thin
from dsnet_mm.data.predictions import Detections
from dsnet_mm.errors import UserError, counted

from .building import check_device
from .checkpoint import check_fit, read_checkpoint
from .config import inference_pipeline, scope_of
from .half_precision import check_bfloat16, use_half_precision


class Predictor:
    """A detector in PyTorch.

    Args:
        cfg: The detector's config.
        checkpoint: Path of its checkpoint.
        score: Detections below this score are left out.
        device: Such as 'cpu' or 'cuda:0', by default the first GPU if there is one.
        precision: 'bf16' computes backbone and neck in bfloat16; 'fp32' or None in float32.

    Raises:
        UserError: If the checkpoint cannot be read or belongs to another model, or if the device
            has no bfloat16.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        score: float = 0.3,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        check_device(device)
        if precision == 'bf16':
            check_bfloat16(device)
        weights = read_checkpoint(checkpoint)
        if scope_of(cfg) != 'mmdet':
            raise UserError(
                f'{cfg.filename} is not the config of a detector; pass one, such as a RetinaNet'
            )
        _keep_scores_from(score, cfg.model.get('test_cfg'))
        dataset: dict[str, Any] = next(find_datasets(cfg, ('test', 'val', 'train')), {})
        cfg.test_dataloader = dict(dataset={**dataset, 'pipeline': inference_pipeline(cfg)})
        cfg.visualizer = cfg.get('visualizer') or dict(type='mmdet.DetLocalVisualizer')
        cfg.visualizer.pop('vis_backends', None)  # which would store drawings in a work dir
        with contextlib.redirect_stdout(io.StringIO()):  # mmengine prints the checkpoint's path
            self.inferencer = DetInferencer(cfg, checkpoint, device=device, show_progress=False)
        check_fit(self.inferencer.model, weights['state_dict'], checkpoint)
        for setting, count in head_classes(cfg.model):
            if count != len(self.classes):
                raise UserError(
                    f'{checkpoint} has {counted(len(self.classes), "class name")} (those of COCO '
                    f'if it stores none), but {setting}={count} in {cfg.filename}; train again '
                    'with as many classes in the heads as in the datasets'
                )
        if precision == 'bf16':
            use_half_precision(self.inferencer.model, torch.bfloat16)
        self.score = score

    @property
    def classes(self) -> Sequence[str]:
        """The class names in the checkpoint, by default those of COCO."""
        return self.inferencer.model.dataset_meta['classes']

    @property
    def palette(self) -> Sequence[Color]:
        """The color of each class in pictures."""
        return palette_of(self.classes, self.inferencer.model.dataset_meta)

    def sample(self, image: np.ndarray) -> DetDataSample:
        """Detect objects on an image (H, W, 3) in blue, green, red, 0 to 255.

        Raises:
            UserError: If the image is too thin to be resized.
        """
        try:
            found = self.inferencer(image, return_datasamples=True)['predictions'][0].cpu()
        except cv2.error as error:
            if not loses_a_side(error):
                raise
            raise too_thin(image) from error
        found.pred_instances = found.pred_instances[found.pred_instances.scores >= self.score]
        return found

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the objects on an image (H, W, 3) in blue, green, red, 0 to 255."""
        return detections_of(self.sample(image))


def detections_of(found: DetDataSample) -> Detections:
    """Return the detections of mmdet without its classes."""
    items = found.pred_instances
    masks = items.masks.numpy() if 'masks' in items else None
    return Detections(items.bboxes.numpy(), items.scores.numpy(), items.labels.numpy(), masks)


def _keep_scores_from(score: float, test_cfg: Any) -> None:
    """Lower every threshold of a test_cfg, below which mmdet drops detections, to ``score``."""
    for key, value in (test_cfg or {}).items():
        if isinstance(value, dict):
            _keep_scores_from(score, value)
        elif key == 'score_thr':
            test_cfg[key] = min(value, score)
