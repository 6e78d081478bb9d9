"""Models that compute as published: the formulations of the two references.

The tests compare them with the fast models, and the tables state their cost.
"""

from __future__ import annotations

from torch import Tensor, nn

from .ds_block import DSBlock
from .dsnet import DSNet
from .glmix_block import AttentionBlock, GLMixBlock
from .glmix_reference import attention, glmix
from .reference import ds_block, to_map, to_tokens


class PublishedDSBlock(DSBlock):
    """A DS-Block that computes as published; ``with_cp`` has no effect."""

    forward = ds_block


class PublishedDSNet(DSNet):
    """A DS-Net that computes as published, on contiguous NCHW maps."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        as_published(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return a map for each of ``out_indices``, as :meth:`DSNet.forward`, of (B, 3, H, W)."""
        outs = [x.contiguous()]
        for stage in self.stages:
            outs.append(stage(outs[-1]))
        return tuple(self.out_norms(i, outs[i + 1]).contiguous() for i in self.out_indices)


class PublishedGLMixBlock(GLMixBlock):
    """A GLMix block that computes as published."""

    mix = glmix


class PublishedAttentionBlock(AttentionBlock):
    """An attention block that computes as published, with the matrix of all pairs of pixels."""

    def mix(self, x: Tensor) -> Tensor:
        """Encode positions, and attend: (B, C, H, W) -> the same shape."""
        x = self.encode_positions(x)
        attended = to_map(attention(self.mha_op, to_tokens(self.norm1(x))), x.shape[2:])
        return x + self.drop_path(self.ls1(attended))


PUBLISHED: dict[type, type] = {
    DSBlock: PublishedDSBlock,
    DSNet: PublishedDSNet,
    GLMixBlock: PublishedGLMixBlock,
    AttentionBlock: PublishedAttentionBlock,
}


def as_published(model: nn.Module) -> nn.Module:
    """Make every DS-Net and every block of DS-Net and GLNet in ``model`` compute as published.

    Returns:
        The model, altered in place.
    """
    for module in model.modules():
        module.__class__ = PUBLISHED.get(type(module), type(module))
    return model
