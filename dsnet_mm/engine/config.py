"""Read configs."""

from __future__ import annotations

import os.path as osp
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import print_log

from dsnet_mm.data.checking.sizes import find_resize
from dsnet_mm.data.locate import SPLITS, find_datasets, set_data_root, type_name
from dsnet_mm.environment import check_optional, configs_dir
from dsnet_mm.errors import UserError, one_line

SCOPES = ('mmdet', 'mmpretrain', 'mmseg')


def find_config(path: str) -> str:
    """Return the path of a config; ``configs/NAME`` works outside of a clone too.

    Raises:
        UserError: If there is no such file, here or among the installed configs.
    """
    if '::' in path or osp.isfile(path):
        return path
    folder, _, name = path.partition('/')
    if folder == 'configs' and (configs_dir() / name).is_file():
        return str(configs_dir() / name)
    raise UserError(f'{path} is not a file; pass the path of a config (.py)')


def load_config(
    path: str,
    work_dir: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    data_root: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and apply the options that training and testing share.

    Args:
        path: The config file, ``configs/NAME`` for an installed config of this project, or
            ``package::path`` for a config of an installed OpenMMLab package, such as
            ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        work_dir: Folder of logs and checkpoints, by default ``work_dirs/<name of the config>``.
        cfg_options: Settings to override, by dotted names such as ``train_cfg.max_epochs``.
        data_root: Folder of the dataset, instead of the folder in the config.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        UserError: If the config cannot be read, if its package is not installed, or if an option
            does not fit the config.
    """
    path = find_config(path)
    try:
        cfg = get_config(path) if '::' in path else Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is a program, which can fail in any way
        raise UserError(f'{path} cannot be read as a config: {one_line(error)}') from error
    check_optional(scope_of(cfg), path)
    cfg.launcher = launcher
    if data_root:
        set_data_root(cfg, data_root)
    before = dict(cfg.get('train_cfg') or {})
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            typed = ' '.join(f'{key}={value}' for key, value in cfg_options.items())
            reason = one_line(error.args[0] if error.args else error)
            raise UserError(
                f'--cfg-options {typed} does not fit the config {path}; correct the name of the '
                f'setting ({reason})'
            ) from error
        if not any(name.startswith('param_scheduler') for name in cfg_options):
            stretch_schedule(cfg, before)
    for split in SPLITS:
        use_no_worker(cfg.get(f'{split}_dataloader'))
    cfg.work_dir = (
        work_dir
        or cfg.get('work_dir')
        or osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    )
    return cfg


def stretch_schedule(cfg: Config, before: Mapping[str, Any]) -> None:
    """Let the schedules that end with the training end with its new length, in place.

    Args:
        cfg: A config with the new ``train_cfg``, in epochs or in iterations.
        before: The earlier ``train_cfg``.
    """
    unit = 'iters' if 'max_iters' in before else 'epochs'
    old, new = before.get(f'max_{unit}'), (cfg.get('train_cfg') or {}).get(f'max_{unit}')
    schedules = cfg.get('param_scheduler') or []
    if not old or not new or new == old:
        return
    for schedule in [schedules] if isinstance(schedules, dict) else schedules:
        by_epoch = schedule.get('by_epoch', True)
        if by_epoch != (unit == 'epochs') or schedule.get('end', old) != old:
            continue
        schedule['end'] = new
        if 'T_max' in schedule:
            schedule['T_max'] += new - old
        if 'milestones' in schedule:
            schedule['milestones'] = [round(at * new / old) for at in schedule['milestones']]
        print_log(
            f'The schedule {type_name(schedule)} follows train_cfg.max_{unit} and ends after {new} '
            f'instead of {old} {"epochs" if by_epoch else "iterations"}.',
            logger='current',
        )


def use_no_worker(loader: ConfigDict | None) -> None:
    """Remove settings of worker processes that PyTorch refuses with ``num_workers=0``."""
    if loader and loader.get('num_workers') == 0:
        loader.persistent_workers = False
        loader.pop('prefetch_factor', None)


def scope_of(cfg: Config) -> str:
    """Return the package whose registries build the model of a config, such as 'mmdet'.

    A config in mmengine's new style has classes and no default scope.
    """
    if cfg.get('default_scope'):
        return cfg.default_scope
    kind = cfg.get('model', {}).get('type')
    if isinstance(kind, str):
        return kind.partition('.')[0] if '.' in kind else 'mmdet'
    packages = (base.__module__.partition('.')[0] for base in getattr(kind, '__mro__', ()))
    return next((package for package in packages if package in SCOPES), 'mmdet')


def inference_pipeline(cfg: Config) -> list[ConfigDict]:
    """Return the transforms from an image file to the input of the model of a detector.

    They are those of the test part of a config, or else of its validation part. A config with a
    training part only resizes images as in training.

    Raises:
        UserError: If no part says how to resize images.
    """
    for dataset in find_datasets(cfg, ('test', 'val')):
        if dataset.get('pipeline'):
            return dataset.pipeline
    resize = find_resize(cfg)
    if not resize:
        raise UserError(
            f'{cfg.filename} does not say how to resize images; set test_dataloader with a '
            'pipeline, such as in configs/retinanet_dsnet_s_fpn_1x_coco.py'
        )
    scale = max(resize.scales)
    keys = ('img_path', 'ori_shape', 'img_shape', 'scale_factor')
    return [
        ConfigDict(type='LoadImageFromFile'),
        ConfigDict(type='Resize', scale=scale, keep_ratio=resize.keep_ratio),
        ConfigDict(type='PackDetInputs', meta_keys=keys),
    ]
