"""The DS-FPN neck of "Dual-stream Network for Visual Recognition".

The paper (https://arxiv.org/abs/2105.14734) adds "DS-Blocks to every feature pyramid scale" and
does not say where. The place chosen here is a decision of this project::

    C5 -- lateral ----------- DS-Block -- 3x3 -- P5 -- extra levels as in FPN
                      |
    C4 -- lateral --- + ----- DS-Block -- 3x3 -- P4
                      |
    C3 -- lateral --- + ----- DS-Block -- 3x3 -- P3
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from mmengine.model import BaseModule
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from dsnet_mm.errors import ConfigError

from .ds_block import DSBlock, stream_widths


class DSFPNConv(BaseModule):
    """A DS-Block before the output convolution of a pyramid level."""

    def __init__(self, block: DSBlock, conv: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Apply block and convolution: (B, C, H, W) -> the same shape."""
        return self.conv(self.block(x))


@ROOT_MODELS.register_module()  # mmsegmentation looks there
@MODELS.register_module()
class DSFPN(FPN):
    """Feature pyramid network with a DS-Block on every merged level.

    The arguments are those of mmdet's :class:`~mmdet.models.necks.FPN` and the following. Extra
    levels are computed as in FPN.

    Args:
        in_channels: Channels of each backbone output.
        out_channels: Channels of every level of the pyramid.
        num_outs: Number of levels.
        in_strides: Strides of the backbone's outputs in pixels. Four outputs or more have 4, 8, 16,
            ... by default. Fewer outputs have no default, because a neck does not see the image.
        grid_stride: Pixels of the image per cell of the blocks' global grids, along each side.
        num_heads: Heads of every attention in the blocks.
        mlp_ratio: Hidden channels of the blocks' MLPs divided by ``out_channels``; 0 omits them.
        align: Whether the blocks have the inter-scale alignment.
        global_ratio: Share of the channels in the global stream.
        block_norm_cfg: Norm of feature maps in the blocks. The default, GroupNorm, works with any
            batch size. SyncBN is an alternative for several devices.
        with_cp: What the backward pass recomputes, ``'mlp'``, True or False, see :class:`DSBlock`.
        max_grid_cells: Largest number of cells of the global grid of each block, a decision of
            this project for large images, see :class:`DSBlock`. None has no limit.
        **kwargs: Further arguments of FPN.

    Raises:
        ConfigError: If ``in_strides`` or the inputs do not fit ``in_channels``, or if an argument
            does not fit the blocks.

    Example:
        >>> neck = DSFPN([64, 128], out_channels=64, num_outs=3, in_strides=(4, 8))
        >>> for out in neck((torch.rand(1, 64, 25, 17), torch.rand(1, 128, 13, 9))):
        ...     print(tuple(out.shape))
        (1, 64, 25, 17)
        (1, 64, 13, 9)
        (1, 64, 7, 5)
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        in_strides: Sequence[int] | None = None,
        grid_stride: int = 32,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        align: bool = True,
        global_ratio: float = 0.5,
        block_norm_cfg: ConfigType = dict(type='GN', num_groups=32),
        with_cp: bool | str = 'mlp',
        max_grid_cells: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(list(in_channels), out_channels, num_outs, **kwargs)
        if in_strides is None:
            if self.num_ins < 4:
                raise ConfigError(
                    f'DSFPN with {self.num_ins} in_channels needs in_strides, the strides of these '
                    'outputs of the backbone in pixels, such as in_strides=[8, 16, 32] for '
                    'out_indices=(1, 2, 3)'
                )
            in_strides = [4 * 2**i for i in range(self.num_ins)]
        if len(in_strides) != self.num_ins:
            raise ConfigError(
                f'in_strides of DSFPN has {len(in_strides)} entries for '
                f'{self.num_ins} in_channels; give one stride for each'
            )
        self.in_strides = list(in_strides)
        groups = block_norm_cfg.get('num_groups', 1)
        local_dims, _ = stream_widths(out_channels, num_heads, global_ratio)
        for width in (out_channels, local_dims):
            if width % groups:
                raise ConfigError(
                    f'num_groups={groups} of block_norm_cfg does not divide the {width} channels '
                    'of the blocks of DSFPN; change it or out_channels'
                )
        used_strides = in_strides[self.start_level : self.backbone_end_level]
        for level, stride in enumerate(used_strides):
            block = DSBlock(
                out_channels,
                num_heads=num_heads,
                grid_stride=max(1, grid_stride // stride),
                mlp_ratio=mlp_ratio,
                align=align,
                global_ratio=global_ratio,
                norm_cfg=block_norm_cfg,
                with_cp=with_cp,
                max_grid_cells=max_grid_cells,
            )
            self.fpn_convs[level] = DSFPNConv(block, self.fpn_convs[level])

    def init_weights(self) -> None:
        """Initialize FPN's layers as FPN does, and the blocks by :meth:`DSBlock.init_weights`."""
        super().init_weights()
        init_cfgs = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg]
        if any(cfg and cfg['type'] == 'Pretrained' for cfg in init_cfgs):
            return
        for module in self.modules():
            if isinstance(module, DSBlock):
                module.init_weights()

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: The backbone's outputs, (B, in_channels[i], H_i, W_i).

        Returns:
            ``num_outs`` maps of (B, out_channels, H_i, W_i), finest first, beginning with the
            backbone's output ``start_level``.
        """
        channels = [x.shape[1] for x in inputs]
        if channels != self.in_channels:
            raise ConfigError(
                f'DSFPN was made for in_channels={self.in_channels} but the backbone '
                f'gives {channels}; set in_channels of the neck to the latter'
            )
        # mmcv's RoIAlign reads any memory format as contiguous
        return tuple(out.contiguous() for out in super().forward(inputs))
