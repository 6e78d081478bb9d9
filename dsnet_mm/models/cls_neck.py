"""What stands between the DS-Net backbone and the linear layer of a classifier."""

from __future__ import annotations

from mmcv.cnn import build_norm_layer
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class NormGlobalAveragePooling(BaseModule):
    """A norm of the feature map, then its mean over all pixels.

    It is registered at mmengine's root, where mmpretrain's registry looks when it has no such
    class itself, so that mmpretrain need not be imported, nor installed.

    Args:
        in_channels: Channels of the map.
        norm_cfg: The norm.
        init_cfg: Initialisation, as of any ``BaseModule``.

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
        """Maps of the backbone, of which the last, (B, C, H, W), is taken -> ((B, C), )."""
        return (self.norm(inputs[-1]).mean((2, 3)),)
