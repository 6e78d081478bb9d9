"""Open and run ONNX files with onnxruntime or OpenVINO."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from dsnet_mm.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np


class OnnxRuntime:
    """A graph in onnxruntime."""

    def __init__(self, path: str, device: str | None) -> None:
        module = _imported('onnxruntime', 'export')
        gpu = 'CUDAExecutionProvider'
        has_gpu = gpu in module.get_available_providers()
        kind, _, number = (device or ('cuda' if has_gpu else 'cpu')).partition(':')
        if kind != 'cpu' and not (kind == 'cuda' and has_gpu):
            raise UserError(
                f'onnxruntime has no device {device} here; pass --device cpu, or install '
                'onnxruntime-gpu for cuda'
            )
        providers = [(gpu, dict(device_id=number or '0'))] if kind == 'cuda' else []
        providers.append(('CPUExecutionProvider', {}))
        options = module.SessionOptions()
        options.log_severity_level = 3  # errors; warnings concern optimizations
        try:
            self.session = module.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime has an exception class for each status
            raise _unreadable(path, 'onnxruntime', error) from error
        self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.inputs = [item.name for item in self.session.get_inputs()]
        self.outputs = [item.name for item in self.session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        given = self.session.run(None, {name: inputs[name] for name in self.inputs})
        return dict(zip(self.outputs, given, strict=True))


class OpenVINO:
    """A graph in OpenVINO, which computes in the type of the weights."""

    def __init__(self, path: str, device: str | None) -> None:
        core = _imported('openvino', 'openvino').Core()
        device = (device or 'cpu').upper()
        known = [name.partition('.')[0] for name in core.available_devices]
        if device.partition('.')[0] not in known:
            raise UserError(
                f'OpenVINO has no device {device} here; pass one of {", ".join(known)} as --device'
            )
        try:
            graph = core.read_model(path)
            # otherwise processors with bfloat16 round float32 weights to it
            self.compiled = core.compile_model(graph, device, {'INFERENCE_PRECISION_HINT': 'f32'})
        except RuntimeError as error:
            raise _unreadable(path, 'OpenVINO', error) from error
        facts = ['framework']  # where OpenVINO keeps the metadata of an ONNX file
        self.metadata: Mapping[str, str] = (
            graph.get_rt_info(facts).value if graph.has_rt_info(facts) else {}
        )
        # an input or output has further names, those of operations that OpenVINO removes
        self.outputs = [name for item in self.compiled.outputs for name in item.names]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        given = self.compiled(
            [
                next(inputs[name] for name in item.names if name in inputs)
                for item in self.compiled.inputs
            ]
        )
        return {name: given[name] for name in self.outputs}


RUNTIMES: dict[str, type[OnnxRuntime] | type[OpenVINO]] = dict(
    onnxruntime=OnnxRuntime, openvino=OpenVINO
)
DEFAULT_RUNTIME = 'onnxruntime'


def _imported(runtime: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(runtime)
    except ImportError as error:
        other = next(name for name in RUNTIMES if name != runtime)
        raise UserError(
            f'{runtime} cannot be imported ({one_line(error)}); run `pip install {runtime}`, or '
            f'`pip install ".[{extra}]"` in a clone of dsnet-mm for the tested versions, or pass '
            f'--runtime {other}'
        ) from error


def _unreadable(path: str, runtime: str, error: Exception) -> UserError:
    return UserError(
        f'{path} cannot be run by {runtime}; export the model again, or try the other --runtime '
        f'({one_line(error)[:300]})'
    )
