from . import flops  # noqa: F401  # importing registers
from .cls_neck import NormGlobalAveragePooling
from .ds_block import DSBlock
from .ds_fpn import DSFPN
from .dsnet import DSNet
from .glmix_block import GLMixBlock
from .glnet import GLNet

__all__ = ['DSBlock', 'DSFPN', 'DSNet', 'GLMixBlock', 'GLNet', 'NormGlobalAveragePooling']
