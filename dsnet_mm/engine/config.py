"""Read configs."""

from __future__ import annotations

import os.path as osp
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config

from dsnet_mm.data.locate import set_data_root
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import UserError


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
        UserError: If the config cannot be read, or an option does not fit the config.
    """
    path = find_config(path)
    try:
        cfg = get_config(path) if '::' in path else Config.fromfile(path)
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
