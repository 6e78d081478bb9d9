"""Write parts of models as ONNX files for images of any size."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from types import ModuleType

import torch

from dsnet_mm.errors import UserError, one_line

from .part import Part, Size

OPSET = 17  # the first with LayerNormalization; newer ones give nothing to these models
BATCH = 2  # of the images that record a graph: a batch of one may be taken for a constant


def to_onnx(part: Part, size: Size, path: Path, facts: dict[str, str]) -> None:
    """Write a graph for batches and images of any size to a path that does not exist.

    Images of the given height and width record the graph. The metadata of the graph hold the facts.

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
        foreign = sorted({x.op_type for x in graph.graph.node if x.domain not in ('', 'ai.onnx')})
        if foreign:
            raise UserError(f'ONNX has no operator {", ".join(foreign)}')
    except OSError:  # no fault of the model
        raise
    except Exception as error:  # an operator without a counterpart, and more
        raise UserError(
            'this model cannot be exported; choose another part with --what '
            f'({one_line(error)[:300]})'
        ) from error


def _record(part: Part, size: Size, path: Path) -> None:
    inputs = part.example(BATCH, size)
    outputs = part.outputs(inputs[0])
    with warnings.catch_warnings(), torch.no_grad():
        # that PyTorch has a newer exporter, and that sizes might be recorded as constants, which
        # the comparison with other sizes would show
        warnings.simplefilter('ignore')
        torch.onnx.export(
            part,
            inputs,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(part.inputs),
            output_names=list(outputs),
            dynamic_axes={**part.inputs, **outputs},
        )


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
