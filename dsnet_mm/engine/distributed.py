"""Processes of a distributed run, on CPUs too."""

from __future__ import annotations

import os

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed

from dsnet_mm.errors import UserError

RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
STARTERS = dict(
    pytorch='torchrun; use tools/dist_train.sh or tools/dist_test.sh',
    slurm='srun; use tools/slurm_train.sh',
    mpi='Open MPI; begin the command with mpirun',
)


def rank_of(launcher: str) -> int:
    """Return the number that a launcher gave to this process, 0 without one."""
    return int(os.environ.get(RANKS.get(launcher, ''), 0))


def unfit_batch(cfg: Config, processes: int) -> tuple[int, int] | None:
    """Compare the batch that runs with the one for which the learning rate was made.

    Args:
        cfg: The config of a training.
        processes: How many train together.

    Returns:
        Images of the batch that runs and of the one that is meant; None if they are the same, the
        rate is scaled, or either is not known.
    """
    scaling = cfg.get('auto_scale_lr') or {}
    meant = scaling.get('base_batch_size')
    batch = (cfg.get('train_dataloader') or {}).get('batch_size', 0) * processes
    batch *= (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if not meant or not batch or batch == meant or scaling.get('enable'):
        return None
    return batch, meant


def start_processes(cfg: Config) -> None:
    """Look whether the launcher of ``cfg`` was used, and join its processes where no GPU is.

    mmengine asks every launcher for an accelerator. On a CPU the processes of torchrun are joined
    here, by gloo, and ``cfg`` is told to leave the choice of a device to PyTorch.

    Raises:
        UserError: If this process was not started by the launcher.
    """
    if cfg.launcher == 'none' or is_distributed():
        return
    if RANKS[cfg.launcher] not in os.environ:
        raise UserError(
            f'--launcher {cfg.launcher} is for the processes of {STARTERS[cfg.launcher]}, or leave '
            'it out to run in one process'
        )
    if get_device() != 'cpu':
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs, and none is found here; use tools/dist_train.sh'
        )
    torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, **cfg.get('model_wrapper_cfg', {})}
