"""Measure size, time and AP of exported graphs, and write the table into ``docs/export.md``.

Run ``python docs/measure_export.py --ann FILE --images DIR CONFIG CHECKPOINT``, with one or several
pairs of CONFIG and CHECKPOINT. The time is CPU time per image with one thread: the whole detection
without reading and drawing the image. All variants take turns on each image.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import openvino
import torch
from rich.progress import track

import dsnet_mm  # registers the models
from dsnet_mm.analysis.tables import markdown, replace_block
from dsnet_mm.data.predictions import Detections
from dsnet_mm.deploy.evaluate import Evaluation
from dsnet_mm.deploy.graph import Graph
from dsnet_mm.deploy.loading import load_part
from dsnet_mm.deploy.onnx_file import to_onnx
from dsnet_mm.deploy.smaller import halve, quantize
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.half_precision import use_half_precision
from dsnet_mm.engine.predict import Predictor
from dsnet_mm.errors import UserError, one_line

PAGE = Path(__file__).resolve().parent / 'export.md'
SIZE = (320, 320)  # of the images that record a graph
SHRINK = dict(float32=None, float16=halve, int8=quantize)


class Timed:
    """Measure the CPU time of each detection; the interface is that of a graph."""

    def __init__(self, detector: Any, megabytes: float) -> None:
        self.detector, self.megabytes = detector, megabytes
        self.classes = detector.classes
        model = detector if isinstance(detector, Graph) else detector.inferencer.model
        self.with_masks = getattr(model, 'with_masks', getattr(model, 'with_mask', False))
        self.seconds: list[float] = []

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects."""
        start = time.process_time()
        found = self.detector(image)
        self.seconds.append(time.process_time() - start)
        return found


def variants(config: str, checkpoint: str, folder: Path) -> dict[tuple[str, str], Timed | str]:
    """Return what is measured by runtime and type, or the reason why it is missing."""
    found: dict[tuple[str, str], Timed | str] = {}
    for name in ('float32', 'bfloat16'):
        # score 1 lowers no threshold of the config
        predictor = Predictor(load_config(config), checkpoint, score=1.0, device='cpu')
        predictor.score = 0.0
        model = predictor.inferencer.model
        if name == 'bfloat16':
            use_half_precision(model, torch.bfloat16)
        tensors = model.state_dict().values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        found['PyTorch', name] = Timed(predictor, size / 1e6)
    part, facts = load_part(config, checkpoint, 'detector')
    for name, shrink in SHRINK.items():
        path = folder / f'{name}.onnx'
        to_onnx(part, SIZE, path, facts)
        if shrink:
            shrink(path)
        for runtime in ('onnxruntime', 'openvino'):
            try:
                found[runtime, name] = Timed(open_graph(path, runtime), path.stat().st_size / 1e6)
            except (UserError, RuntimeError) as error:
                found[runtime, name] = f'does not run: {one_line(error)[:80]}'
    if 'BF16' in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        path = folder / 'float32.onnx'
        graph = open_graph(path, 'openvino', 'bf16')
        found['openvino', 'bfloat16'] = Timed(graph, path.stat().st_size / 1e6)
    else:
        found['openvino', 'bfloat16'] = 'not available on this processor'
    return found


def open_graph(path: Path, runtime: str, precision: str = 'f32') -> Graph:
    """Return a graph that runs in one thread."""
    graph = Graph(path, runtime, 'cpu')
    if runtime == 'onnxruntime':
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        providers = ['CPUExecutionProvider']
        graph.runtime.session = onnxruntime.InferenceSession(str(path), options, providers)
    else:
        settings = dict(INFERENCE_NUM_THREADS=1, INFERENCE_PRECISION_HINT=precision)
        graph.runtime.compiled = openvino.Core().compile_model(str(path), 'CPU', settings)
    return graph


def measure(config: str, checkpoint: str, ann: str, images: str) -> list[list[str]]:
    """Return the rows of one model."""
    with tempfile.TemporaryDirectory() as folder:
        found = variants(config, checkpoint, Path(folder))
        running = [timed for timed in found.values() if isinstance(timed, Timed)]
        evaluations = [Evaluation(timed, ann, images) for timed in running]  # type: ignore
        for image in track(evaluations[0].images, Path(config).stem):
            for evaluation in evaluations:
                evaluation.detect(image)
    metrics = dict(zip(running, (evaluation.metrics() for evaluation in evaluations), strict=True))
    rows = []
    title = str(load_config(config).model.type).removeprefix('mmdet.')
    for (runtime, name), timed in found.items():
        row = [title, runtime, name]
        if isinstance(timed, str):
            rows.append([*row, timed, '', '', '', ''])
            continue
        ratios = [a / b for a, b in zip(timed.seconds, running[0].seconds, strict=True)]
        masks = metrics[timed].get('coco/segm_mAP')
        rows.append(
            [
                *row,
                f'{timed.megabytes:.1f}',
                f'{1000 * statistics.median(timed.seconds):.0f}',
                f'{statistics.median(ratios):.2f}',
                f'{metrics[timed].get("coco/bbox_mAP", 0):.4f}',
                '' if masks is None else f'{masks:.4f}',
            ]
        )
    return rows


def main() -> None:
    """Measure the models, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('models', nargs='+', help='CONFIG CHECKPOINT, once or several times')
    parser.add_argument('--ann', required=True, help='annotation file')
    parser.add_argument('--images', required=True, help='folder of its images')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for config, checkpoint in zip(args.models[::2], args.models[1::2], strict=True):
        rows += measure(config, checkpoint, args.ann, args.images)
    header = ['model', 'runtime', 'type', 'MB', 'ms', 'time / PyTorch float32', 'box AP', 'mask AP']
    count = len(json.loads(Path(args.ann).read_text(encoding='utf-8'))['images'])
    packages = ', '.join(f'{name} {version(name)}' for name in ('torch', 'onnxruntime', 'openvino'))
    measured = (
        f'Measured on {datetime.date.today()} in one run on {count} images with one thread of '
        f'{processor()}: {packages}, dsnet-mm {dsnet_mm.__version__}.'
    )
    replace_block(PAGE, 'export table', f'{markdown(header, rows)}\n\n{measured}')


def processor() -> str:
    """Return the name of the processor."""
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


if __name__ == '__main__':
    main()
