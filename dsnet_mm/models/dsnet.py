"""The DS-Net backbone of "Dual-stream Network for Visual Recognition".

https://arxiv.org/abs/2105.14734. There are four stages, at strides 4, 8, 16 and 32. Each stage is a
patch embedding followed by DS-Blocks. What the paper leaves open follows the public
implementations with trained weights, SteveTsui/DS-Net and PaddleClas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from .ds_block import DSBlock
from .ops import is_traced
from .staged_backbone import StagedBackbone

PATCH_SIZES = (4, 2, 2, 2)
GRID_STRIDES = (8, 4, 2, 2)  # pixels of a stage's map per cell of its global grid


def _arch(*depths: int) -> dict:
    return dict(
        embed_dims=(64, 128, 320, 512), depths=depths, num_heads=(1, 2, 5, 8), mlp_ratio=4.0
    )


class PatchEmbed(BaseModule):
    """A convolution whose kernel size equals its stride, on an input padded to whole patches."""

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, C, H, W) -> (B, embed_dims, ceil(H / patch_size), ceil(W / patch_size))."""
        height, width = x.shape[2:]
        pad_h, pad_w = padding(height, self.patch_size), padding(width, self.patch_size)
        if is_traced() or pad_h or pad_w:  # one traced graph serves all sizes
            x = F.pad(x, (0, pad_w, 0, pad_h))
        return self.proj(x)


def padding(side: int, patch_size: int) -> int:
    """Return the number of pixels that extend ``side`` to whole patches."""
    # torch.compile makes far longer expressions of -side % patch_size
    return (side + patch_size - 1) // patch_size * patch_size - side


class DSStage(BaseModule):
    """A patch embedding followed by DS-Blocks."""

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        drop_path_rates: Sequence[float],
        **block_args,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size)
        self.blocks = ModuleList(
            DSBlock(embed_dims, drop_path_rate=rate, **block_args) for rate in drop_path_rates
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply (B, C, H, W) -> (B, embed_dims, ceil(H / patch_size), ceil(W / patch_size))."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return x


@ROOT_MODELS.register_module()  # mmpretrain looks there
@MODELS.register_module()
class DSNet(StagedBackbone):
    """DS-Net backbone.

    The outputs are those of the stages, without a further norm unless ``out_norm_cfg`` is set. Any
    image size is accepted: each patch embedding pads its input at the right and at the bottom.

    Args:
        arch: 'tiny', 'small' or 'base', or a dict with ``embed_dims``, ``depths``,
            ``num_heads`` (a number per stage each, one to four stages) and ``mlp_ratio``.
        align: Whether the blocks have the inter-scale alignment (the paper's starred models).
        global_ratio: Share of the channels in the global stream, the paper's alpha. 0 and 1
            build blocks of one stream, without alignment.
        out_indices: Stages whose outputs are returned, ascending. Later stages are not built.
        drop_path_rate: Stochastic depth of the last block. The rate rises linearly from 0 over the
            whole depth of ``arch``.
        attn_drop_rate: Dropout of attention weights in training. The public implementations
            train with 0.1.
        norm_cfg: Norm of feature maps. Tokens are always layer-normalized.
        act_cfg: Activation of the MLPs.
        norm_eval: Whether BatchNorm of the stages stays in eval mode in training, as in mmdet's
            ResNet. Use True with pretrained weights, and False to train from scratch.
        frozen_stages: -1 freezes nothing, 0 the first patch embedding, k the first k stages
            with their patch embeddings and the norms of their outputs.
        with_cp: What the backward pass recomputes instead of storing it, see :class:`DSBlock`.
            ``'mlp'``, the default: norms and the activation of the MLP. True: whole blocks, with
            the least memory. False: nothing.
        max_grid_cells: Largest number of cells of the global grid of each block, a decision of
            this project for large images, see :class:`DSBlock`. None is the published function.
        out_norm_cfg: Norm of each output map, a decision of this project: ``dict(type='LN')`` over
            the channels of each pixel, GN or BN. None, the published function, has no such norms.
            Pretrained weights may lack these norms, which then start as they are built.
        init_cfg: Initialization, such as ``dict(type='Pretrained', checkpoint=...)``, whose
            checkpoint must fit in every tensor, see :class:`StrictBackbone`.

    Raises:
        ConfigError: If an argument does not fit the architecture.

    Example:
        >>> model = DSNet('tiny')
        >>> for out in model(torch.rand(1, 3, 127, 65)):
        ...     print(tuple(out.shape))
        (1, 64, 32, 17)
        (1, 128, 16, 9)
        (1, 320, 8, 5)
        (1, 512, 4, 3)
    """

    arch_zoo = dict(tiny=_arch(2, 2, 4, 1), small=_arch(3, 4, 8, 3), base=_arch(3, 4, 28, 3))

    def __init__(
        self,
        arch: str | dict = 'tiny',
        align: bool = True,
        global_ratio: float = 0.5,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.1,
        attn_drop_rate: float = 0.0,
        norm_cfg: ConfigType = dict(type='BN'),
        act_cfg: ConfigType = dict(type='GELU'),
        norm_eval: bool = True,
        frozen_stages: int = -1,
        with_cp: bool | str = 'mlp',
        max_grid_cells: int | None = None,
        out_norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **unknown,
    ) -> None:
        super().__init__(
            arch, out_indices, norm_eval, frozen_stages, out_norm_cfg, init_cfg, unknown
        )
        arch, rates = self.arch, self.drop_path_rates(drop_path_rate)
        in_channels = (3, *arch['embed_dims'])
        self.stages = ModuleList(
            DSStage(
                in_channels[i],
                arch['embed_dims'][i],
                PATCH_SIZES[i],
                drop_path_rates=rates[i],
                num_heads=arch['num_heads'][i],
                grid_stride=GRID_STRIDES[i],
                mlp_ratio=arch['mlp_ratio'],
                align=align,
                global_ratio=global_ratio,
                attn_drop_rate=attn_drop_rate,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
                with_cp=with_cp,
                max_grid_cells=max_grid_cells,
            )
            for i in range(self.out_indices[-1] + 1)
        )
        self.freeze_stages()

    def stem(self) -> nn.Module:
        """Return the first patch embedding."""
        return self.stages[0].patch_embed
