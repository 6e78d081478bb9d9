"""Export models as ONNX graphs for images of any size, and verify the graphs."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox
from mmengine.config import Config
from torch import Tensor, nn

from dsnet_mm.errors import UserError

from .building import build_model, initialize
from .checkpoint import check_fit, read_checkpoint
from .config import load_config

PARTS = ('backbone', 'neck', 'detector')
OPSET = 17  # the first with LayerNormalization; newer ones give nothing to these models
TRIED = ('DSNet', 'ResNet')  # backbones; others may record sizes as constants
TOLERANCE = 1e-4  # largest difference over largest value
BATCH = 2  # of the images that record a graph: a batch of one may be taken for a constant

Size = tuple[int, int]


class Part(nn.Module):
    """The exported part of a model.

    Attributes:
        classes: Their names in the checkpoint; None without one.
    """

    classes: Sequence[str] | None = None


class Maps(Part):
    """Images (B, 3, H, W) -> the outputs of a model's backbone, or of the neck behind it."""

    def __init__(self, model: nn.Module, with_neck: bool) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if with_neck else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, finest first, (B, C_i, H_i, W_i) each."""
        maps = self.backbone(images)
        return maps if self.neck is None else self.neck(maps)

    def outputs(self, images: Tensor) -> dict[str, dict[int, str]]:
        """Return the names of the outputs and of their dynamic axes."""
        with torch.no_grad():
            ranks = [x.ndim for x in self(images)]
        varying = {0: 'batch', 2: 'height', 3: 'width'}
        return {
            f'map{i}': {axis: f'{name}{i}' for axis, name in varying.items() if axis < rank}
            for i, rank in enumerate(ranks)
        }


class DecodedRetinaNet(Part):
    """Images (B, 3, H, W) -> all boxes of a RetinaNet and their scores, before NMS."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect objects.

        Args:
            images: (B, 3, H, W), normalized as the model's data preprocessor does it.

        Returns:
            Boxes (B, N, 4) as left, top, right, bottom in pixels of ``images``, clipped to them
            where the model does so, and scores (B, N, classes) within 0 and 1. N grows with the
            images: one box for each anchor.
        """
        # torch.jit takes sizes for constants that it cannot trace back to the input
        batch, _, height, width = images.shape
        head = self.model.bbox_head
        coder = head.bbox_coder
        logits, deltas = head(self.model.extract_feat(images))
        priors = head.prior_generator.grid_priors(
            [level.shape[2:] for level in logits], dtype=images.dtype, device=images.device
        )
        boxes = delta2bbox(
            torch.cat(priors).repeat(batch, 1),
            _by_anchor(deltas, batch, 4).reshape(-1, 4),
            coder.means,
            coder.stds,
            add_ctr_clamp=coder.add_ctr_clamp,
            ctr_clamp=coder.ctr_clamp,
        ).reshape(batch, -1, 4)
        if coder.clip_border:
            limits = (width, height, width, height)
            sides = [side.clamp(0, limit) for side, limit in zip(boxes.unbind(2), limits)]
            boxes = torch.stack(sides, 2)
        return boxes, _by_anchor(logits, batch, head.cls_out_channels).sigmoid()

    def outputs(self, images: Tensor) -> dict[str, dict[int, str]]:
        """Return the names of the outputs and of their dynamic axes."""
        return {name: {0: 'batch', 1: 'anchors'} for name in ('boxes', 'scores')}


def is_tried(part: Maps | DecodedRetinaNet) -> bool:
    """Return whether graphs with this backbone are known to accept any image size."""
    model = part if isinstance(part, Maps) else part.model
    return type(model.backbone).__name__ in TRIED


def _by_anchor(levels: Sequence[Tensor], batch: int, width: int) -> Tensor:
    """Maps (B, anchors * width, H_i, W_i) of all levels -> (B, N, width)."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(batch, -1, width) for x in levels], 1)


def load_part(config: str, checkpoint: str | None, what: str) -> Maps | DecodedRetinaNet:
    """Build the exported part in eval mode, on the CPU.

    Args:
        config: Path of the config.
        checkpoint: Path of its checkpoint, or None for random weights.
        what: One of :data:`PARTS`.

    Raises:
        UserError: If the config or the checkpoint cannot be read or do not fit each other, or
            the model has no such part that can be exported.
    """
    model, classes = build_model(config), None
    if what == 'detector':
        _check_is_retinanet(model, config)
    elif what == 'neck' and getattr(model, 'neck', None) is None:
        raise UserError(f'the model of {config} has no neck; export its backbone')
    if checkpoint:
        weights = read_checkpoint(checkpoint)
        check_fit(model, weights['state_dict'], checkpoint)
        model.load_state_dict(weights['state_dict'])
        meta = (weights.get('meta') or {}).get('dataset_meta') or {}
        classes = list(meta.get('classes', meta.get('CLASSES', ())))
    else:
        initialize(model)  # or boxes of a random model may magnify each rounding a thousand times
    part = DecodedRetinaNet(model) if what == 'detector' else Maps(model, what == 'neck')
    part.classes = classes
    return part.eval()


def _check_is_retinanet(model: nn.Module, config: str) -> None:
    head = getattr(model, 'bbox_head', None)
    if (
        isinstance(head, RetinaHead)
        and isinstance(head.bbox_coder, DeltaXYWHBBoxCoder)
        and head.use_sigmoid_cls
    ):
        return
    raise UserError(
        f'{config} is a {type(model).__name__}, but only a RetinaNet with sigmoid scores can be '
        'exported with its head; export the feature maps with --what neck and run the head in '
        'PyTorch'
    )


def describe(part: Part, config: str, checkpoint: str | None) -> dict[str, str]:
    """Return the preprocessing and the classes, which users of the graph need."""
    cfg = load_config(config)
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    names = ('mean', 'std', 'bgr_to_rgb', 'to_rgb', 'pad_size_divisor')
    resize = _resize_of(cfg)
    facts: dict[str, Any] = {
        'preprocessing': {name: settings[name] for name in names if name in settings} | resize,
        'weights': Path(checkpoint).name if checkpoint else 'random',
    }
    if part.classes is not None:
        facts['classes'] = part.classes
    return {
        name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()
    }


def _resize_of(cfg: Config) -> dict[str, Any]:
    """Return the size, width and height in pixels, to which the test pipeline resizes."""
    pipeline = cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline') or []
    steps = [step for step in pipeline if step.get('type') == 'Resize' and 'scale' in step]
    return {name: step[name] for step in steps for name in ('scale', 'keep_ratio') if name in step}


def to_onnx(part: Maps | DecodedRetinaNet, size: Size, path: Path, facts: dict[str, str]) -> None:
    """Write a graph for batches and images of any size.

    Args:
        part: What is exported.
        size: Height and width of the images that record the graph.
        path: The file, which must not exist.
        facts: Stored in the file's metadata.

    Raises:
        UserError: If the package onnx is missing, or the model does not export.
        OSError: If the system does not let the file be written.
    """
    onnx = needed('onnx')
    try:
        _record(part, size, path)
        graph = onnx.load(str(path))
        onnx.helper.set_model_props(graph, facts)
        onnx.checker.check_model(graph)
        onnx.save(graph, str(path))
    except OSError:  # no fault of the model
        raise
    except Exception as error:  # an operator without a counterpart, and more
        reason = ' '.join(str(error).split())[:300]
        raise UserError(
            f'this model cannot be exported; choose another part with --what ({reason})'
        ) from error


def _record(part: Maps | DecodedRetinaNet, size: Size, path: Path) -> None:
    images = torch.rand(BATCH, 3, *size)
    outputs = part.outputs(images)
    with warnings.catch_warnings(), torch.no_grad():
        # that PyTorch has a newer exporter, and that sizes might be recorded as constants, which
        # the comparison with other sizes would show
        warnings.simplefilter('ignore')
        torch.onnx.export(
            part,
            (images,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=['images'],
            output_names=list(outputs),
            dynamic_axes={'images': {0: 'batch', 2: 'height', 3: 'width'}, **outputs},
        )


def compare(part: nn.Module, path: Path, sizes: Sequence[Size]) -> Iterator[tuple[Size, float]]:
    """Compare onnxruntime with PyTorch.

    Args:
        part: What was exported.
        path: The graph.
        sizes: Heights and widths of random images to compare with.

    Yields:
        For each size, the largest difference of an output over its largest value, infinite where
        the graph does not take it.

    Raises:
        UserError: If the package onnxruntime is missing.
    """
    runtime = needed('onnxruntime')
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for number, size in enumerate(sizes):
        images = torch.randn(number % 2 + 1, 3, *size)
        with torch.no_grad():
            wanted = part(images)
        try:
            given = session.run(None, {'images': images.numpy()})
        except Exception:  # a shape that was recorded as a constant fits nowhere else
            yield size, float('inf')
            continue
        yield size, max(_difference(torch.from_numpy(a), b) for a, b in zip(given, wanted))


def _difference(given: Tensor, wanted: Tensor) -> float:
    if given.shape != wanted.shape:
        return float('inf')
    largest = (given - wanted).abs().max() / wanted.abs().max()
    return float('inf') if largest.isnan() else largest.item()


def sizes_to_check(size: Size) -> list[Size]:
    """Return the size that recorded the graph, an odd one above it and one below it."""
    height, width = size
    return [size, (height + 37, width + 91), (max(1, height // 2 - 3), max(1, width * 2 // 3))]


def needed(module: str) -> ModuleType:
    """Import a module that only exporting needs.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f'{module} cannot be imported ({error}); run `pip install onnx onnxruntime`, or '
            '`pip install ".[export]"` in a clone of dsnet-mm for the tested versions'
        ) from error
