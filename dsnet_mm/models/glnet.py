"""GLNet, the backbone of GLMix blocks.

"Revisiting the Integration of Convolution and Attention for Vision Backbone" (NeurIPS 2024),
https://arxiv.org/abs/2411.14429. The function is that of rayleizhu/GLMix, whose weights fit. The
paper and the public code have no detector; what concerns detection is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType, OptMultiConfig
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from dsnet_mm.errors import ConfigError

from .glmix_block import AttentionBlock, GLMixBlock, MixerBlock
from .ops import is_traced
from .staged_backbone import StagedBackbone

LAYOUTS = ('swin', 'hybrid')


def _arch(layout: str, width: int, layer_scale: float | None = None, learned: bool = False) -> dict:
    return dict(
        layout=layout,
        embed_dims=tuple(width * 2**i for i in range(4)),
        depths=(2, 2, 6, 2) if layout == 'swin' else (4, 4, 18, 4),
        mlp_ratio=4.0 if layout == 'swin' else 3.0,
        learned_slots=learned,
        layer_scale=layer_scale,
    )


class PatchConv(nn.Conv2d):
    """A convolution whose kernel size equals its stride.

    Rows and columns that fill no patch are left out, as in the public code. An input that is
    smaller than a patch is padded to one, which is a decision of this project.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, C, H, W) -> (B, D, max(1, H // stride), max(1, W // stride))."""
        pads = [self._padding(side) for side in x.shape[2:]]
        if is_traced() or any(pads):  # one traced graph serves all sizes
            x = F.pad(x, (0, pads[1], 0, pads[0]))
        return super().forward(x)

    def _padding(self, side: int) -> int:
        missing = self.stride[0] - side
        return missing.clamp(min=0) if isinstance(missing, Tensor) else torch.sym_max(0, missing)


class GLStage(BaseModule):
    """The blocks of one stage."""

    def __init__(self, blocks: Sequence[MixerBlock]) -> None:
        super().__init__()
        self.blocks = ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Apply (B, C, H, W) -> the same shape."""
        for block in self.blocks:
            x = block(x)
        return x


@ROOT_MODELS.register_module()  # mmpretrain looks there
@MODELS.register_module()
class GLNet(StagedBackbone):
    """GLNet backbone.

    The outputs are those of the stages, without a further norm unless ``out_norm_cfg`` is set. Any
    image size is accepted: 'stl' leaves out rows and columns that fill no patch, and the others
    round sizes up.

    Clustering and attention see padded pixels, so the features of an image depend on the padding
    of its batch, as in the public code.

    Args:
        arch: 'stl' (Swin-T's layout), 'stl_paramslot' (the same with learned slots), '4g', '9g' or
            '16g', or a dict with ``layout`` ('swin': patches and plain MLPs; 'hybrid': overlapping
            patches and convolutions in the blocks), ``embed_dims`` and ``depths`` (a number per
            stage each, one to four stages), ``mlp_ratio``, ``learned_slots`` and ``layer_scale``
            (first value of the factors, or None).
        out_indices: Stages whose outputs are returned, ascending. Later stages are not built.
        drop_path_rate: Stochastic depth of the last block. The rate rises linearly from 0 over the
            whole depth of ``arch``.
        norm_eval: Whether BatchNorm stays in eval mode in training, as in mmdet's ResNet. Use
            True with pretrained weights, and False to train from scratch.
        frozen_stages: -1 freezes nothing, 0 the stem, k the first k stages with the convolutions
            before them.
        with_cp: What the backward pass recomputes instead of storing it. ``'mlp'``, the default:
            norms before convolutions, and the activation of the MLP. True: whole blocks, with the
            least memory. False: nothing.
        out_norm_cfg: Norm of each output map, such as ``dict(type='LN')``, as in :class:`DSNet`.
        init_cfg: Initialization, such as ``dict(type='Pretrained', checkpoint=...)``, whose
            checkpoint must fit in every tensor, see :class:`StrictBackbone`.

    Raises:
        ConfigError: If an argument does not fit the architecture.

    Example:
        >>> model = GLNet('4g')
        >>> for out in model(torch.rand(1, 3, 127, 65)):
        ...     print(tuple(out.shape))
        (1, 64, 32, 17)
        (1, 128, 16, 9)
        (1, 256, 8, 5)
        (1, 512, 4, 3)
    """

    how_to_get_weights = (
        'download the file in a browser by the links in the README of rayleizhu/GLMix, and convert '
        'it with `dsnet-mm weights --from FILE --out FILE`'
    )
    arch_zoo = {
        'stl': _arch('swin', 96),
        'stl_paramslot': _arch('swin', 96, learned=True),
        '4g': _arch('hybrid', 64),
        '9g': _arch('hybrid', 96),
        '16g': _arch('hybrid', 128, layer_scale=1e-4),
    }

    def __init__(
        self,
        arch: str | dict = '4g',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.1,
        norm_eval: bool = True,
        frozen_stages: int = -1,
        with_cp: bool | str = 'mlp',
        out_norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **unknown,
    ) -> None:
        super().__init__(
            arch, out_indices, norm_eval, frozen_stages, out_norm_cfg, init_cfg, unknown
        )
        arch = self.arch
        if arch['layout'] not in LAYOUTS:
            raise ConfigError(
                f'layout={arch["layout"]!r} is unknown; use {" or ".join(map(repr, LAYOUTS))}'
            )
        is_hybrid = arch['layout'] == 'hybrid'
        block_args = dict(
            mlp_ratio=arch['mlp_ratio'],
            has_convs=is_hybrid,
            layer_scale=arch['layer_scale'],
            with_cp=with_cp,
        )
        rates = self.drop_path_rates(drop_path_rate)
        self.downsample_layers = ModuleList()
        self.stages = ModuleList()
        for i in range(self.out_indices[-1] + 1):
            dims = arch['embed_dims'][i]
            before = arch['embed_dims'][i - 1] if i else 3
            downsample = overlapping_conv if is_hybrid else patch_conv
            self.downsample_layers.append(downsample(before, dims, is_stem=i == 0))
            blocks: list[MixerBlock] = []
            for j, rate in enumerate(rates[i]):
                if is_global(i, j, is_hybrid):
                    blocks.append(AttentionBlock(dims, drop_path_rate=rate, **block_args))
                else:
                    blocks.append(
                        GLMixBlock(dims, arch['learned_slots'], drop_path_rate=rate, **block_args)
                    )
            self.stages.append(GLStage(blocks))
        self.freeze_stages()

    def parts_of_stage(self, index: int) -> list[nn.Module]:
        """Return the convolutions before a stage, and the stage."""
        return [self.downsample_layers[index], self.stages[index]]

    def stem(self) -> nn.Module:
        """Return the module that reads the image."""
        return self.downsample_layers[0]


def is_global(stage: int, block: int, is_hybrid: bool) -> bool:
    """Return whether a block attends to all pixels; the others are GLMix blocks."""
    return stage == 3 or (is_hybrid and stage == 2 and block % 2 == 1)


def patch_conv(in_channels: int, dims: int, is_stem: bool) -> nn.Sequential:
    """Return the patch embedding of the layout 'swin': stride 4 at the stem, else 2."""
    if is_stem:
        return nn.Sequential(PatchConv(in_channels, dims, 4, stride=4), nn.BatchNorm2d(dims))
    return nn.Sequential(nn.BatchNorm2d(in_channels), PatchConv(in_channels, dims, 2, stride=2))


def overlapping_conv(in_channels: int, dims: int, is_stem: bool) -> nn.Sequential:
    """Return the convolutions of the layout 'hybrid': stride 4 at the stem, else 2."""
    if is_stem:
        return nn.Sequential(
            nn.Identity(),  # an empty place of the public code
            nn.Conv2d(in_channels, dims // 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(dims // 2),
            nn.GELU(),
            nn.Conv2d(dims // 2, dims, 3, stride=2, padding=1),
            nn.BatchNorm2d(dims),
        )
    return nn.Sequential(nn.Conv2d(in_channels, dims, 3, stride=2, padding=1), nn.BatchNorm2d(dims))
