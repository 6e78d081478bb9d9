"""GLNets with weights and an image drawn by a rule, whose answers are recorded."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import nn

from dsnet_mm.models import GLNet
from dsnet_mm.weights.published_models import classifier_around
from dsnet_mm.weights.tensor_names import glnet_name

D1121 = dict(GLNet.arch_zoo['4g'], depths=(1, 1, 2, 1))
ARCHS = {
    'd1121': D1121,
    'd1121_ls': dict(D1121, layer_scale=1e-4),
    'stl_d1111_paramslot': dict(GLNet.arch_zoo['stl_paramslot'], depths=(1, 1, 1, 1)),
    'stl': GLNet.arch_zoo['stl'],
}
"""Architectures of the answers, by name."""

GAINS = dict(in_proj_weight=2.0, feature_conv=1.0, out_proj=0.5, pos_conv=0.25)


def tensor_by_name(name: str, shape: tuple[int, ...], prefix: str = '') -> torch.Tensor:
    """Draw the tensor of a published name from a generator seeded by ``prefix + name``."""
    seed = zlib.crc32((prefix + name).encode())
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.int64)
    if leaf in ('running_var', 'gamma'):
        x = 0.5 + x**2 / 4
    elif leaf == 'slot_scale':
        x = 4 + 2 * x**2
    elif leaf == 'running_mean':
        x = 0.1 * x
    elif leaf == 'weight' and len(shape) == 1:
        x = 1 + 0.1 * x
    elif len(shape) == 1:
        x = 0.05 * x
    else:
        gain = next((gain for part, gain in GAINS.items() if part in name), 0.7)
        x = gain * x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def published(arch: dict, num_classes: int = 1000) -> dict[str, torch.Tensor]:
    """Return the weights by rule under their published names."""
    with torch.device('meta'):
        shapes = classifier_around(GLNet(arch), num_classes).state_dict()
    names = {glnet_name(name): tuple(tensor.shape) for name, tensor in shapes.items()}
    return {name: tensor_by_name(name, shape) for name, shape in names.items()}


def classifier(arch: dict, weights: dict[str, torch.Tensor]) -> nn.ModuleDict:
    """Return a classifier with published weights, in eval mode."""
    model = classifier_around(GLNet(arch), len(weights['head.bias']))
    model.load_state_dict({name: weights[glnet_name(name)] for name in model.state_dict()})
    return model.eval()
