"""Training and testing from a config, as the tools do it: checks first, then mmengine's runner."""

from __future__ import annotations

import os.path as osp
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmcv.cnn import fuse_conv_bn
from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import DumpResults
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner

from dsnet_mm.data.locate import check_data, set_data_root
from dsnet_mm.errors import UserError
from dsnet_mm.files import make_folder

from .checkpoint import check_fit, read_checkpoint
from .distributed import rank_of, start_processes, unfit_batch
from .faults import checkpoints_in, explained, latest_checkpoint, only_training_in
from .fresh_metrics_hook import FreshMetricsHook
from .initial_weights import adds_to_backbone, check_initial_weights, read_load_from
from .missing_classes_hook import MissingClassesHook
from .start_warnings_hook import StartWarningsHook


def load_config(
    path: str,
    work_dir: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    data_root: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and apply the options that training and testing share.

    Args:
        path: The config file.
        work_dir: Folder of logs and checkpoints, by default ``work_dirs/<name of the config>``.
        cfg_options: Settings that replace the config's, with dots in their names.
        data_root: Folder of the data set, instead of the one that the config names.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        UserError: If the config cannot be read, or an option does not fit it.
    """
    if not osp.isfile(path):
        raise UserError(f'{path} is no file; give the path of a config (.py)')
    try:
        cfg = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is a program, which can fail in any way
        reason = ' '.join(str(error).split())
        raise UserError(f'{path} cannot be read as a config: {reason}') from error
    cfg.launcher = launcher
    if data_root:
        set_data_root(cfg, data_root)
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            typed = ' '.join(f'{key}={value}' for key, value in cfg_options.items())
            reason = ' '.join(str(error.args[0] if error.args else error).split())
            raise UserError(
                f'--cfg-options {typed} does not fit the config {path}; correct the name of the '
                f'setting ({reason})'
            ) from error
    cfg.work_dir = (
        work_dir
        or cfg.get('work_dir')
        or osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    )
    return cfg


def train(
    cfg: Config, amp: bool = False, auto_scale_lr: bool = False, resume: str | None = None
) -> dict[str, float]:
    """Train, and evaluate as the config says.

    Args:
        cfg: A config, see :func:`load_config`.
        amp: Whether to train in mixed precision.
        auto_scale_lr: Whether to scale the learning rate by the batch size.
        resume: 'auto' for the latest whole checkpoint in the work dir, or the path of one.

    Returns:
        The metrics of the last evaluation by name.

    Raises:
        UserError: If data or weights are missing or do not fit, another process trains in the
            work dir, it cannot be written to, or the training cannot go on for want of space, whole
            data or finite losses.
    """
    check_data(cfg, ('train', 'val'))
    if amp:
        if get_device() == 'cpu':
            raise UserError('--amp needs a GPU, and none is found here; leave it out')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                f'{cfg.filename} does not say for which batch size its learning rate is made; '
                'set auto_scale_lr=dict(base_batch_size=...) in it'
            )
        cfg.auto_scale_lr.enable = True
        # mmengine leaves the accumulation of gradients out of the batch size
        cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)
    latest = latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if latest:
        cfg.resume, cfg.load_from = True, str(latest)
    else:
        if resume:  # and there is nothing to go on from: it begins as without
            cfg.resume = False
        check_initial_weights(cfg)
    weights = read_checkpoint(cfg.load_from)['state_dict'] if latest else read_load_from(cfg)
    goes_on = 'go on with --resume, which takes the last whole checkpoint'
    with explained(cfg, goes_on), only_training_in(cfg.work_dir, rank_of(cfg.launcher)):
        runner = build_runner(cfg)
        if latest:
            check_fit(_bare_model(runner), weights, cfg.load_from)
        elif weights and not adds_to_backbone(_bare_model(runner), weights, cfg):
            runner._load_from = None
        del weights  # the model has its own
        warnings = [*check_batch_size(cfg, runner.world_size), *check_older_checkpoints(cfg)]
        runner.register_hook(StartWarningsHook(warnings))
        runner.register_hook(FreshMetricsHook())
        runner.register_hook(MissingClassesHook())
        runner.train()
        stop_workers(runner)
    scalars = runner.message_hub.log_scalars
    return {name[4:]: scalars[name].current() for name in scalars if name.startswith('val/')}


def evaluate(
    cfg: Config,
    checkpoint: str,
    out: str | None = None,
    show_dir: str | None = None,
    fuse: bool = False,
) -> dict[str, float]:
    """Evaluate a checkpoint on the test set of a config.

    Args:
        cfg: A config, see :func:`load_config`.
        checkpoint: Path of the checkpoint.
        out: Where to store the predictions, a ``.pkl`` file.
        show_dir: Where to store the images with the predictions drawn on them.
        fuse: Whether to fold each BatchNorm into the convolution before it.

    Returns:
        The metrics by name.

    Raises:
        UserError: If data are missing, the checkpoint does not fit, or a folder of the results
            cannot be written to.
    """
    if out and not out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {out} must end in .pkl, the only format of stored predictions')
    if fuse and any(hook['type'] == 'EMAHook' for hook in cfg.get('custom_hooks', [])):
        raise UserError(
            f'--fuse does not go with the EMAHook of {cfg.filename}, which exchanges weights; '
            'leave one of the two out'
        )
    check_data(cfg, ('test',))
    weights = read_checkpoint(checkpoint)
    cfg.load_from = checkpoint
    if show_dir:
        draw_predictions(cfg, show_dir)
        make_folder(show_dir, '--show-dir')
    if out:
        make_folder(Path(out).parent, '--out')
    make_folder(cfg.work_dir, '--work-dir')
    with explained(cfg, 'evaluate again'):
        runner = build_runner(cfg)
        check_fit(_bare_model(runner), weights['state_dict'], checkpoint)
        if out:
            dump = DumpDetResults if cfg.get('default_scope') == 'mmdet' else DumpResults
            runner.test_evaluator.metrics.append(dump(out_file_path=out))
        if fuse:
            runner.load_or_resume()
            fuse_conv_bn(_bare_model(runner))
        runner.register_hook(MissingClassesHook())
        metrics = runner.test()
        stop_workers(runner)
        return metrics


def stop_workers(runner: Runner) -> None:
    """Stop the processes that load data; the garbage collector waits five seconds for each."""
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        if isinstance(loop, BaseLoop):
            loop.dataloader._iterator = None


def draw_predictions(cfg: Config, folder: str) -> None:
    """Have the visualisation hook of ``cfg`` draw every test image into ``folder``, in place.

    Raises:
        UserError: If ``cfg`` has no such hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if not hook:
        raise UserError(
            f'{cfg.filename} has nothing to draw with; give its default_hooks the '
            'VisualizationHook of mmpretrain or the DetVisualizationHook of mmdet, or leave '
            '--show-dir out'
        )
    folder = osp.abspath(folder)  # mmdet puts relative paths below the work dir
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    else:
        hook.update(draw=True, test_out_dir=folder)


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config and look over its model.

    Raises:
        UserError: If a type is unknown, backbone and neck do not fit, or the launcher was not used.
    """
    setup_cache_size_limit_of_dynamo()
    start_processes(cfg)
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except KeyError as error:
        missing = re.match(r"['\"](\S+) is not in the (\S+) registry", str(error))
        if not missing:
            raise
        raise UserError(
            f"{cfg.filename} asks for type='{missing[1]}', which is not registered as a "
            f'{missing[2]}; correct the name or add its module to custom_imports'
        ) from error
    model = _bare_model(runner)
    for given, wanted in (('out_channels', 'in_channels'), ('out_strides', 'in_strides')):
        has = getattr(getattr(model, 'backbone', None), given, None)
        wants = getattr(getattr(model, 'neck', None), wanted, None)
        if isinstance(has, tuple) and isinstance(wants, list) and list(has) != wants:
            raise UserError(
                f'the neck of {cfg.filename} has {wanted}={wants} but its backbone gives '
                f'{list(has)}; set {wanted} of the neck to the latter'
            )
    return runner


def check_batch_size(cfg: Config, world_size: int) -> Iterator[str]:
    """Yield a warning if the learning rate was made for another batch size than runs."""
    if unfit := unfit_batch(cfg, world_size):
        batch, meant = unfit
        yield (
            f'The learning rate of this config is made for batches of {meant} images, but '
            f'{batch} run here: add --auto-scale-lr to scale it by {batch / meant:g}.'
        )


def check_older_checkpoints(cfg: Config) -> Iterator[str]:
    """Yield a warning if a training begins anew beside the checkpoints of an earlier one."""
    earlier = checkpoints_in(cfg.work_dir)
    if earlier and not cfg.get('resume'):
        yield (
            f'{cfg.work_dir} holds checkpoints of an earlier training up to {earlier[0].name}, '
            'which this one writes over: stop it to go on from there with --resume, or to keep '
            'them by naming another folder with --work-dir.'
        )


def _bare_model(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
