"""Check what can be checked before a training starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from torch import Tensor

from dsnet_mm.data.locate import check_data
from dsnet_mm.errors import UserError
from dsnet_mm.files import make_folder

from .annotation_files import Checked, check_annotations
from .building import bare_model
from .checkpoint import check_fit, checkpoints_in, latest_checkpoint, read_checkpoint
from .distributed import rank_of, unfit_batch
from .initial_weights import LoadFrom, check_initial_weights, read_load_from
from .run_file import RunFile, State, plain


@dataclass
class Start:
    """Where a training starts."""

    # tensors that the whole model starts from
    weights: dict[str, Tensor] = field(default_factory=dict)
    resumes: bool = False  # whether the tensors are those of a checkpoint to resume
    # the facts of a finished training, of which nothing is left to train
    finished: RunFile | None = None
    annotations: Checked = field(default_factory=Checked)


def preflight(
    cfg: Config, amp: bool = False, auto_scale_lr: bool = False, resume: str | None = None
) -> Start:
    """Run all checks that need no model, and apply the options to ``cfg``.

    The arguments are those of :func:`.train.train`.

    Raises:
        UserError: If a check fails.
    """
    check_data(cfg, ('train', 'val'))
    if amp:
        set_amp(cfg)
    if auto_scale_lr:
        set_auto_scale_lr(cfg)
    start = find_start(cfg, resume)
    if not start.finished and rank_of(cfg.launcher) == 0:
        start.annotations = check_annotations(cfg, ('train', 'val'))
    make_folder(cfg.work_dir, '--work-dir')  # last: a failed check leaves nothing behind
    return start


def set_amp(cfg: Config) -> None:
    """Configure mixed precision.

    Raises:
        UserError: If this machine has no GPU.
    """
    if get_device() == 'cpu':
        raise UserError('--amp needs a GPU, but none was found; omit --amp')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'


def set_auto_scale_lr(cfg: Config) -> None:
    """Configure a learning rate that follows the batch size.

    Raises:
        UserError: If the config does not state the batch size of its learning rate.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError(
            f'{cfg.filename} does not state the batch size of its learning rate; set '
            'auto_scale_lr=dict(base_batch_size=...) in it'
        )
    cfg.auto_scale_lr.enable = True
    # mmengine leaves the accumulation of gradients out of the batch size
    cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)


def find_start(cfg: Config, resume: str | None) -> Start:
    """Find the checkpoint to resume, or check the weights that the config starts from.

    Raises:
        UserError: If weights are missing or cannot be read.
    """
    latest = latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if latest:
        cfg.resume, cfg.load_from = True, str(latest)
        weights = read_checkpoint(cfg.load_from)['state_dict']
        facts = RunFile.read(cfg.work_dir) if resume == 'auto' else None
        if facts and facts.state is State.FINISHED and _same_schedule(facts, cfg):
            return Start(weights, resumes=True, finished=facts)
        return Start(weights, resumes=True)
    if resume:  # there is nothing to resume
        cfg.resume = False
    check_initial_weights(cfg)
    return Start(read_load_from(cfg))


def check_model(runner: Runner, start: Start) -> Iterator[str]:
    """Check that the weights of the start fit the model, and yield what they leave unset.

    Raises:
        UserError: If the weights do not fit.
    """
    if start.resumes:
        check_fit(bare_model(runner), start.weights, runner.cfg.load_from)
    elif start.weights:
        use = LoadFrom.of(bare_model(runner), start.weights, runner.cfg)
        if use.only_repeats_backbone:
            runner._load_from = None
        if use.is_partial:
            yield str(use)
    start.weights = {}  # free the memory; the model has its own tensors


def warnings_of(cfg: Config, world_size: int) -> Iterator[str]:
    """Yield warnings about the batch size and about checkpoints that will be overwritten."""
    if unfit := unfit_batch(cfg, world_size):
        batch, base = unfit
        yield (
            f'The learning rate of this config is for batches of {base} images, but this run has '
            f'batches of {batch}: pass --auto-scale-lr to scale the learning rate by '
            f'{batch / base:g}.'
        )
    earlier = checkpoints_in(cfg.work_dir)
    if earlier and not cfg.get('resume'):
        yield (
            f'{cfg.work_dir} holds checkpoints of an earlier training up to {earlier[0].name}, '
            'which this training overwrites: stop and pass --resume to continue the earlier '
            'training, or pass another folder as --work-dir to keep it.'
        )


def _same_schedule(facts: RunFile, cfg: Config) -> bool:
    return facts.config.get('train_cfg') == plain(cfg.train_cfg)
