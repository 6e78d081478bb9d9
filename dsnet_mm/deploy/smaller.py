"""Store graphs with fewer bits: weights and activations in float16, or in 8-bit integers."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from .onnx_file import needed


def halve(path: Path) -> None:
    """Convert the network of a graph to float16, in place; the inputs and outputs keep their types.

    The nodes outside of the network's modules compute boxes and select them. They stay in
    float32, because float16 has steps of one pixel from 1024 pixels on.
    """
    onnx = needed('onnx')
    converter = needed('onnxruntime.transformers.float16')
    model = onnx.load(str(path))
    outside = [node.name for node in model.graph.node if node.name.count('/') == 1]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about weights too small for float16
        model = converter.convert_float_to_float16(
            model, keep_io_types=True, node_block_list=outside
        )
    _remove_detours(model.graph)
    sorted_model = needed('onnxruntime.quantization.onnx_model').ONNXModel(model)
    sorted_model.topological_sort()  # the converter appends its casts
    onnx.checker.check_model(sorted_model.model)
    onnx.save(sorted_model.model, str(path))


def _remove_detours(graph: Any) -> None:
    """Remove the casts to float16 and back that the converter puts between nodes in float32."""
    down = {x.output[0]: x for x in graph.node if x.name.endswith('_cast_to_fp16_node')}
    back = [x for x in graph.node if x.op_type == 'Cast' and x.input[0] in down]
    outputs = {output.name for output in graph.output}
    names: dict[str, str] = {}
    for node in sorted(back, key=lambda x: x.output[0] not in outputs):
        direct, detour = down[node.input[0]].input[0], node.output[0]
        if detour in outputs:
            names[direct] = detour
        else:
            names[detour] = names.get(direct, direct)
        graph.node.remove(node)
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
    used = {name for node in graph.node for name in node.input}
    for node in down.values():
        if node.output[0] not in used:
            graph.node.remove(node)


def quantize(path: Path) -> None:
    """Quantize the weights of a graph to 8 bits, in place; activations follow at run time."""
    quantization = needed('onnxruntime.quantization')
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice to prepare the graph
    try:
        quantization.quantize_dynamic(path, path, weight_type=quantization.QuantType.QUInt8)
    finally:
        logging.disable(before)
