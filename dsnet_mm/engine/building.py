"""Build the model or the runner of a config."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import BaseLoop, Runner

from dsnet_mm.errors import UserError, one_line

from .config import load_config, scope_of
from .distributed import start_processes
from .quiet_start import QuietStartRunner


def build_model(config: str | Path, **backbone: Any) -> BaseModel:
    """Build the model of a config, without data and without loading weights.

    Args:
        config: A config, named as for :func:`load_config`.
        **backbone: Settings of the backbone to override.

    Raises:
        UserError: If the config cannot be read or its model has no backbone.
    """
    cfg = load_config(str(config))
    try:
        init_default_scope(scope_of(cfg))
        cfg.model.get('backbone', {}).update(backbone)
        model = MODELS.build(cfg.model)
    except Exception as error:  # a registry passes on every exception
        raise UserError(f'no model can be built from {config}: {one_line(error)}') from error
    if not hasattr(model, 'backbone'):
        raise UserError(f'the model of {config} has no backbone; pass a detector or a classifier')
    return model


def check_device(device: str | None) -> None:
    """Check that this machine has a device, such as 'cpu' or 'cuda:0'; None is any device.

    Raises:
        UserError: If it has not.
    """
    try:
        torch.zeros(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f'this machine has no device {device}; pass --device cpu, or cuda:0 for a GPU'
        ) from error


def initialize(model: BaseModel) -> None:
    """Initialize a model at random and silently, without the weights that its config names."""
    for module in model.modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, dict) and 'checkpoint' in init_cfg:
            module.init_cfg = None
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config and check that its backbone and neck fit.

    Raises:
        UserError: If a type is unknown, backbone and neck do not fit, or the launcher was not used.
    """
    setup_cache_size_limit_of_dynamo()
    start_processes(cfg)
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else QuietStartRunner.from_cfg(cfg)
    except KeyError as error:
        missing = re.match(r"['\"](\S+) is not in the (\S+) registry", str(error))
        if not missing:
            raise
        raise UserError(
            f"type='{missing[1]}' in {cfg.filename} is not registered as a {missing[2]}; correct "
            'the name or add its module to custom_imports'
        ) from error
    model = bare_model(runner)
    for given, needed in (('out_channels', 'in_channels'), ('out_strides', 'in_strides')):
        has = getattr(getattr(model, 'backbone', None), given, None)
        needs = getattr(getattr(model, 'neck', None), needed, None)
        if isinstance(has, tuple) and isinstance(needs, list) and list(has) != needs:
            raise UserError(
                f'the neck of {cfg.filename} has {needed}={needs} but the backbone has {given}='
                f'{list(has)}; set {needed} of the neck to {list(has)}'
            )
    return runner


def bare_model(runner: Runner) -> Any:
    """Return the model of a runner without the wrapper of a distributed run."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def stop_workers(runner: Runner) -> None:
    """Stop the data loader processes, for each of which garbage collection waits five seconds."""
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        if isinstance(loop, BaseLoop):
            loop.dataloader._iterator = None
