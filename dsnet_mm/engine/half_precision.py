"""Compute the features of a model in a 16-bit type, such as bfloat16."""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dsnet_mm.errors import UserError
from dsnet_mm.models.glmix_block import SelfAttention

CPUINFO = Path('/proc/cpuinfo')
CPU_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}  # the last one is that of ARM


def check_bfloat16(device: str | None = None) -> None:
    """Check that a device, by default the one of mmengine, has instructions for bfloat16.

    PyTorch emulates missing instructions, which is slower than float32.

    Raises:
        UserError: If the device has none.
    """
    device = device or get_device()
    kind = torch.device(device).type
    if kind == 'cuda':  # torch.cuda.is_bf16_supported() accepts emulation
        has = bool(torch.version.hip) or torch.cuda.get_device_properties(device).major >= 8
    else:
        has = kind == 'cpu' and bool(CPU_FLAGS & cpu_flags())
    if not has:
        where = dict(cpu='this processor', cuda='this GPU').get(kind, f'the device {kind}')
        reason = 'has no instructions for bfloat16'
        if kind == 'cpu' and not CPUINFO.is_file():
            reason = f'does not list its instructions in {CPUINFO}'
        raise UserError(
            f'--precision bf16 cannot be used, because {where} {reason} (AVX-512 BF16, AMX, BF16 '
            'of ARM, or those of a GPU); omit --precision'
        )


def cpu_flags() -> set[str]:
    """Return the instruction sets of the processor as Linux names them."""
    return set(CPUINFO.read_text(encoding='utf-8').split()) if CPUINFO.is_file() else set()


def use_half_precision(model: BaseModel, dtype: torch.dtype) -> None:
    """Let backbone and neck compute in a 16-bit type, in place; heads stay in float32.

    This is autocast without its cast of all weights in each run: the weights of convolutions,
    linear layers and GLNet's attention are cast once. Norms keep their weights and statistics in
    float32.

    Raises:
        UserError: If the model has no backbone.
    """
    if getattr(model, 'backbone', None) is None:
        raise UserError(f'{type(model).__name__} has no backbone; omit --precision')
    device = next(model.parameters()).device.type

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            outs = type(self).forward(self, *args, **kwargs)
        return as_float32(outs)

    for part in (model.backbone, getattr(model, 'neck', None)):
        if part is None:
            continue
        for module in part.modules():
            if isinstance(module, (_ConvNd, nn.Linear, SelfAttention)):
                module.to(dtype)
        part.forward = MethodType(forward, part)  # a copy of the model binds its own part


def as_float32(outs: Any) -> Any:
    """Return tensors in float32, also those of sequences and dicts.

    RoIAlign and NMS of mmcv have no bfloat16 on a CPU.
    """
    if isinstance(outs, Tensor):
        return outs.float() if outs.is_floating_point() else outs
    if isinstance(outs, dict):
        return {name: as_float32(out) for name, out in outs.items()}
    return tuple(map(as_float32, outs)) if isinstance(outs, (list, tuple)) else outs
