"""Run an exported detector with onnxruntime or OpenVINO, without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from dsnet_mm.data.class_colors import Color, all_colors
from dsnet_mm.data.predictions import Detections
from dsnet_mm.errors import UserError

from .masks import paste
from .preprocess import Preprocessing
from .runtimes import DEFAULT_RUNTIME, RUNTIMES


class Graph:
    """A detector in an ONNX file that `dsnet-mm export` has written.

    Args:
        path: The file.
        runtime: A key of :data:`.runtimes.RUNTIMES`, by default onnxruntime.
        device: Such as 'cpu' or 'cuda:0', or a device of OpenVINO; by default, the first GPU if
            onnxruntime finds one.
        score: Detections below this score are left out.

    Raises:
        UserError: If the runtime or the device is missing, or the file holds no such detector.
    """

    def __init__(
        self,
        path: str | Path,
        runtime: str | None = None,
        device: str | None = None,
        score: float = 0.0,
    ) -> None:
        if not Path(path).is_file():
            raise UserError(
                f'{path} is not a file; pass a graph that `dsnet-mm export` has written'
            )
        self.runtime = RUNTIMES[runtime or DEFAULT_RUNTIME](str(path), device)
        facts = self.runtime.metadata
        _check_format(path, facts.get('format'))
        self.score = score
        self.with_masks = 'masks' in self.runtime.outputs
        self.lowest_score = float(facts.get('score_thr', 0))
        self.mask_threshold = float(facts.get('mask_thr_binary', 0.5))
        self.classes: Sequence[str] = json.loads(facts['classes'])
        self.palette: Sequence[Color] = all_colors(
            json.loads(facts.get('palette', '[]')), len(self.classes)
        )
        settings = json.loads(facts['preprocessing'])
        if 'scale' not in settings:
            raise UserError(
                f'{path} does not say how to resize images; set test_dataloader in the config with '
                'a pipeline that resizes, and export again'
            )
        known = {field.name for field in fields(Preprocessing)}
        self.preprocess = Preprocessing(**{key: settings[key] for key in known & {*settings}})

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the objects on an image (H, W, 3) in blue, green, red, 0 to 255."""
        size = image.shape[:2]
        images, resized = self.preprocess(image)
        outputs = self.runtime.run(
            dict(
                images=images,
                resized_sizes=np.array([resized], np.int64),
                original_sizes=np.array([size], np.int64),
            )
        )
        boxes, scores, labels = (outputs[name][0] for name in ('boxes', 'scores', 'labels'))
        places = np.flatnonzero((labels >= 0) & (scores >= self.score))
        masks = None
        if self.with_masks:
            masks = paste(outputs['masks'][0][places], boxes[places], size, self.mask_threshold)
        return Detections(boxes[places], scores[places], labels[places], masks)


def _check_format(path: str | Path, form: str | None) -> None:
    if form is None:
        raise UserError(
            f'{path} does not come from `dsnet-mm export`, or from an older version; export the '
            'model again'
        )
    if form != 'detections':
        option = '--raw' if form == 'raw' else '--what'
        raise UserError(
            f'{path} holds no complete detector, because its format is {form}; export the model '
            f'again without {option}'
        )
