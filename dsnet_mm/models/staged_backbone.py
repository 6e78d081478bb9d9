"""What the backbones DS-Net and GLNet share: arguments, outputs, frozen stages, BatchNorm."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from mmdet.utils import OptConfigType, OptMultiConfig
from mmengine.logging import print_log
from mmengine.model import ModuleList
from torch import Tensor, nn

from dsnet_mm.errors import ConfigError

from .norms import OutputNorms, set_norms_to_eval
from .strict_backbone import StrictBackbone

PER_STAGE = ('embed_dims', 'depths', 'num_heads')  # keys of an architecture with a list


class StagedBackbone(StrictBackbone):
    """A backbone of up to four stages at strides 4, 8, 16 and 32.

    A subclass builds ``stages``, and ends its ``__init__`` with :meth:`freeze_stages`.

    Args:
        arch: A name in ``arch_zoo``, or a dict with the keys of the entries there.
        out_indices: Stages whose outputs are returned, ascending.
        norm_eval: Whether BatchNorm stays in eval mode in training.
        frozen_stages: -1 freezes nothing, 0 the stem, k the first k stages with it.
        out_norm_cfg: Norm of each output map, or None.
        init_cfg: Initialization, see :class:`StrictBackbone`.
        unknown: Further arguments, which are an error.

    Raises:
        ConfigError: If an argument does not fit the architecture.
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]]
    stages: ModuleList

    def __init__(
        self,
        arch: str | dict,
        out_indices: Sequence[int],
        norm_eval: bool,
        frozen_stages: int,
        out_norm_cfg: OptConfigType,
        init_cfg: OptMultiConfig,
        unknown: Iterable[str],
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if unknown:
            raise ConfigError(
                f'{type(self).__name__} has no argument {", ".join(unknown)}; {_remedy(unknown)}'
            )
        self.arch = self.find_arch(arch)
        num_stages = len(self.arch['depths'])
        self.out_indices = self.check_out_indices(out_indices, num_stages)
        if not -1 <= frozen_stages <= num_stages:
            raise ConfigError(
                f'frozen_stages={frozen_stages} is not within -1 and the number of '
                f'stages, {num_stages}'
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.out_channels = tuple(self.arch['embed_dims'][i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2**i for i in self.out_indices)
        self.out_norms = OutputNorms(
            out_norm_cfg, dict(zip(self.out_indices, self.out_channels, strict=True))
        )

    @classmethod
    def find_arch(cls, arch: str | dict) -> dict[str, Any]:
        """Return the architecture of a name, or of a dict with the keys of ``arch_zoo``.

        Raises:
            ConfigError: If the name is unknown or the dict is malformed.
        """
        keys = tuple(next(iter(cls.arch_zoo.values())))
        if isinstance(arch, str):
            if arch not in cls.arch_zoo:
                raise ConfigError(
                    f"arch '{arch}' is unknown; use one of {sorted(cls.arch_zoo)} "
                    f'or a dict with {", ".join(keys)}'
                )
            return cls.arch_zoo[arch]
        if set(arch) != set(keys):
            raise ConfigError(f'arch has the keys {sorted(arch)}; give {", ".join(keys)}')
        lists = [key for key in keys if key in PER_STAGE]
        lengths = {len(arch[key]) for key in lists}
        if len(lengths) != 1 or not lengths <= {1, 2, 3, 4}:
            raise ConfigError(
                f'{", ".join(lists[:-1])} and {lists[-1]} of arch need one entry per stage, '
                f'for one to four stages; they have {sorted(lengths)}'
            )
        return arch

    @staticmethod
    def check_out_indices(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
        """Return ``out_indices`` as a tuple.

        Raises:
            ConfigError: If they are not ascending indices of stages.
        """
        indices = tuple(out_indices)
        if (
            not indices
            or sorted(set(indices)) != list(indices)
            or not (0 <= indices[0] and indices[-1] < num_stages)
        ):
            raise ConfigError(
                f'out_indices={indices} must be ascending and within 0 and '
                f'{num_stages - 1}, the last stage of this arch'
            )
        return indices

    def drop_path_rates(self, last: float) -> list[list[float]]:
        """Return the rates of each block by stage, rising linearly from 0 over the whole depth."""
        depths = list(self.arch['depths'])
        # on the CPU, because a model built on the meta device needs the rates too
        rates = torch.linspace(0, last, sum(depths), device='cpu').split(depths)
        return [stage.tolist() for stage in rates]

    def parts_of_stage(self, index: int) -> list[nn.Module]:
        """Return the modules of a stage, applied in this order."""
        return [self.stages[index]]

    def stem(self) -> nn.Module:
        """Return the module that reads the image."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x: Images, (B, 3, H, W).

        Returns:
            A map (B, C_i, H_i, W_i) for each of ``out_indices``, about H / s by W / s pixels with
            s = 4, 8, 16, 32.
        """
        outs = []
        x = x.contiguous(memory_format=torch.channels_last)
        for i in range(len(self.stages)):
            for part in self.parts_of_stage(i):
                x = part(x)
            if i in self.out_indices:
                # mmcv's RoIAlign reads any memory format as contiguous
                outs.append(self.out_norms(i, x).contiguous())
        return tuple(outs)

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says, see :class:`StrictBackbone`."""
        if self.norm_eval and self.init_cfg is None and not self.is_init:
            print_log(
                f'BatchNorm of {type(self).__name__} keeps its initial statistics, because '
                'norm_eval is True and init_cfg has no weights; set norm_eval=False to train from '
                'scratch.',
                logger='current',
                level=logging.WARNING,
            )
        super().init_weights()

    def freeze_stages(self) -> None:
        """Set the frozen stages to eval mode, without gradients."""
        built = min(self.frozen_stages, len(self.stages))
        frozen = [part for i in range(built) for part in self.parts_of_stage(i)]
        frozen += [norm for i, norm in self.out_norms.items() if int(i) < self.frozen_stages]
        if self.frozen_stages == 0:
            frozen.append(self.stem())
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True):
        """Set the training mode, except for frozen stages and, with ``norm_eval``, BatchNorm.

        BatchNorm of the output maps trains like that of a neck: it has no pretrained statistics.
        """
        super().train(mode)
        self.freeze_stages()
        if mode and self.norm_eval:
            for i in range(len(self.stages)):
                for part in self.parts_of_stage(i):
                    set_norms_to_eval(part)
        return self


def _remedy(unknown: Iterable[str]) -> str:
    """Return what to do about arguments that belong to the backbone of a base config."""
    if 'pretrained' in unknown:
        return 'write pretrained=None in the model, and weights into init_cfg of the backbone'
    return (
        'correct the name, or write backbone=dict(_delete_=True, ...), so that nothing is left of '
        'the backbone of the base config'
    )
