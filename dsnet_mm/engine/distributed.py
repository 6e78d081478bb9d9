"""Start and join the processes of a distributed run, on GPUs or on CPUs."""

from __future__ import annotations

import os

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed

from dsnet_mm.errors import UserError

RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
STARTERS = dict(
    pytorch='torchrun --nproc_per_node GPUS -m dsnet_mm',
    slurm='srun dsnet-mm',
    mpi='mpirun dsnet-mm',
)


def rank_of(launcher: str) -> int:
    """Return the rank that a launcher gave to this process, 0 without a launcher."""
    return int(os.environ.get(RANKS.get(launcher, ''), 0))


def batch_size_of(cfg: Config, processes: int) -> int:
    """Return the images per step of the optimizer over all processes, 0 if unknown."""
    images = (cfg.get('train_dataloader') or {}).get('batch_size', 0)
    return images * processes * (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)


def unfit_batch(cfg: Config, processes: int) -> tuple[int, int] | None:
    """Compare the batch size of a run with the batch size of its learning rate.

    Args:
        cfg: The config of a training.
        processes: Number of processes that train together.

    Returns:
        The batch size of the run, and the batch size for which the learning rate is meant. None if
        both are equal, if either is unknown, or if the learning rate is scaled.
    """
    scaling = cfg.get('auto_scale_lr') or {}
    meant = scaling.get('base_batch_size')
    batch = batch_size_of(cfg, processes)
    if not meant or not batch or batch == meant or scaling.get('enable'):
        return None
    return batch, meant


def start_processes(cfg: Config) -> None:
    """Check that the launcher of ``cfg`` was used, and join its processes on a CPU.

    mmengine joins processes on accelerators only. On a CPU, this function joins the processes of
    torchrun with gloo and configures a model wrapper without a device.

    Raises:
        UserError: If this process was not started by the launcher.
    """
    if cfg.launcher == 'none' or is_distributed():
        return
    if RANKS[cfg.launcher] not in os.environ:
        raise UserError(
            f'--launcher {cfg.launcher} has not started this process; begin the command with '
            f'`{STARTERS[cfg.launcher]}`, or omit --launcher to run in one process'
        )
    if get_device() != 'cpu':
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs, but none was found; on a CPU, use '
            f'`{STARTERS["pytorch"]}` with --launcher pytorch'
        )
    torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, **cfg.get('model_wrapper_cfg', {})}
