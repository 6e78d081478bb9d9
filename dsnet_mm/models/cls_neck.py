"""The neck between the DS-Net backbone and the linear layer of a classifier."""

from __future__ import annotations

from mmcv.cnn import build_norm_layer
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class NormGlobalAveragePooling(BaseModule):
    """Normalize a feature map, then average over all pixels.

    The class is registered in mmengine's root registry, where mmpretrain finds it. So this module
    does not require mmpretrain.

    Args:
        in_channels: Channels C of the map.
        norm_cfg: The norm.
        init_cfg: Initialization, as of any ``BaseModule``.

    Example:
        >>> neck = NormGlobalAveragePooling(512)
        >>> neck((torch.rand(2, 512, 7, 7), ))[0].shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        in_channels: int,
        norm_cfg: ConfigType = dict(type='BN'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Pool the last of the backbone's maps, (B, C, H, W) -> ((B, C), )."""
        return (self.norm(inputs[-1]).mean((2, 3)),)
