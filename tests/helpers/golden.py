"""Weights and an image drawn by a rule, in the formats of the public implementations.

``tests/recorded/`` holds the answers of the public implementations on these weights.
"""

from __future__ import annotations

import io
import pickle
import sys
import zlib
from types import ModuleType

import numpy as np
import pytest
import torch

from dsnet_mm.models import DSNet
from dsnet_mm.weights.published_models import dsnet_classifier
from dsnet_mm.weights.tensor_names import published_name

LINEAR = ('channel_up', 'cross_channel_up_sa', 'fuse_channel_conv', 'fuse_channel_sa', 'head')
ONE_BLOCK = (1, 1, 1, 1)
CLASSES = 5  # of the models that tests make themselves


def tensor_by_name(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw the tensor of a published name, PyTorch layout, from a generator seeded by the name."""
    x = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == 'running_var':
        x = 0.5 + x**2 / 4
    elif leaf == 'running_mean':
        x = 0.1 * x
    elif leaf == 'weight' and len(shape) == 1:
        x = 1 + 0.1 * x
    elif len(shape) == 1:
        x = 0.05 * x
    else:
        gain = 1.5 if 'channel_up' in name else 0.5
        x = gain * x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def image() -> torch.Tensor:
    """Return the input of the answers, (1, 3, 128, 160)."""
    generator = np.random.Generator(np.random.PCG64(7))
    return torch.from_numpy(generator.standard_normal((1, 3, 128, 160)).astype(np.float32))


def arch_of(depths: tuple[int, ...]) -> dict:
    """Return the architecture with the published widths and these depths."""
    return dict(DSNet.arch_zoo['tiny'], depths=depths)


def published_shapes(depths=ONE_BLOCK, align=True, num_classes=CLASSES) -> dict[str, tuple]:
    """Return the published names of a model and the shapes of its tensors."""
    skeleton = dsnet_classifier(depths, align, num_classes, 'none')
    return {published_name(name): tuple(x.shape) for name, x in skeleton.state_dict().items()}


def published(depths=ONE_BLOCK, align=True) -> dict[str, torch.Tensor]:
    """Return the weights of a model by recipe under their published names."""
    shapes = published_shapes(depths, align)
    return {name: tensor_by_name(name, shape) for name, shape in shapes.items()}


def narrow_models(patch: pytest.MonkeyPatch) -> None:
    """Make every model narrow, so that files are small; the answers need the real width."""
    widths = dict(embed_dims=(8, 16, 24, 32), num_heads=(1, 1, 1, 1))
    for arch, settings in DSNet.arch_zoo.items():
        patch.setitem(DSNet.arch_zoo, arch, {**settings, **widths})


def is_linear(name: str) -> bool:
    """Whether the tensor is the weight of a fully connected layer."""
    layer, leaf = name.rsplit('.', 1)
    return leaf == 'weight' and layer.rsplit('.', 1)[-1] in LINEAR


def paddle_arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Lay out and name published weights as PaddleClas does."""
    arrays = {}
    for name, tensor in tensors.items():
        if name.endswith('num_batches_tracked'):
            continue
        array = (tensor.t() if is_linear(name) else tensor).numpy()
        name = name.replace('running_mean', '_mean').replace('running_var', '_variance')
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def paddle_bytes(arrays: dict, protocol: int = 4, numpy_module: str = 'numpy._core') -> bytes:
    """Pickle arrays as ``paddle.save`` does, for numpy 2 or, as in 2022, ``numpy.core``."""
    entries = {**arrays, 'StructuredToParameterName@@': {name: f'p_{name}' for name in arrays}}
    with io.BytesIO() as file, pytest.MonkeyPatch.context() as patch:
        module = ModuleType(f'{numpy_module}.multiarray')
        reconstruct = np.empty(1).__reduce__()[0]

        def _reconstruct(*args):
            return reconstruct(*args)

        _reconstruct.__module__, _reconstruct.__qualname__ = module.__name__, '_reconstruct'
        module._reconstruct = _reconstruct
        patch.setitem(sys.modules, module.__name__, module)
        # numpy's own modules stay as they are: only the name in the pickle is of interest
        pickler = pickle._Pickler(file, protocol)
        pickler.reducer_override = lambda x: (
            (_reconstruct, *x.__reduce__()[1:]) if type(x) is np.ndarray else NotImplemented
        )
        pickler.dump(entries)
        return file.getvalue()


def torch_bytes(entries, **options) -> bytes:
    """Return what ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(entries, file, **options)
    return file.getvalue()
