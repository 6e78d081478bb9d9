from .cls_neck import NormGlobalAveragePooling
from .ds_block import DSBlock
from .ds_fpn import DSFPN
from .dsnet import DSNet

__all__ = ['DSBlock', 'DSFPN', 'DSNet', 'NormGlobalAveragePooling']
