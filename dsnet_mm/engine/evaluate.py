"""Evaluate a checkpoint."""

from __future__ import annotations

import os.path as osp
from pathlib import Path

from mmcv.cnn import fuse_conv_bn
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config
from mmengine.evaluator import DumpResults

from dsnet_mm.data.locate import check_data
from dsnet_mm.errors import UserError
from dsnet_mm.files import make_folder

from .building import bare_model, build_runner, stop_workers
from .checkpoint import check_fit, read_checkpoint
from .explain_errors import explained
from .hooks import CheckClassesHook


def evaluate(
    cfg: Config,
    checkpoint: str,
    out: str | None = None,
    show_dir: str | None = None,
    fuse: bool = False,
) -> dict[str, float]:
    """Evaluate a checkpoint on the test dataset of a config.

    Args:
        cfg: A config, see :func:`.config.load_config`.
        checkpoint: Path of the checkpoint.
        out: File for the predictions, ``.pkl``.
        show_dir: Folder for the images with drawn predictions.
        fuse: Whether to fold each BatchNorm into the convolution before it.

    Returns:
        The metrics by name.

    Raises:
        UserError: If data are missing, the checkpoint does not fit, or a folder is not writable.
    """
    if out and not out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {out} must end in .pkl, the only format of stored predictions')
    if fuse and any(hook['type'] == 'EMAHook' for hook in cfg.get('custom_hooks', [])):
        raise UserError(
            f'--fuse does not work with the EMAHook of {cfg.filename}, which exchanges weights; '
            'remove one of them'
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
        check_fit(bare_model(runner), weights['state_dict'], checkpoint)
        if out:
            dump = DumpDetResults if cfg.get('default_scope') == 'mmdet' else DumpResults
            runner.test_evaluator.metrics.append(dump(out_file_path=out))
        if fuse:
            runner.load_or_resume()
            fuse_conv_bn(bare_model(runner))
        runner.register_hook(CheckClassesHook())
        metrics = runner.test()
        stop_workers(runner)
        return metrics


def draw_predictions(cfg: Config, folder: str) -> None:
    """Configure the visualization hook of ``cfg`` to draw every test image into ``folder``.

    Raises:
        UserError: If ``cfg`` has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if not hook:
        raise UserError(
            f'{cfg.filename} has no visualization hook; add the VisualizationHook of mmpretrain '
            'or the DetVisualizationHook of mmdet to its default_hooks, or omit --show-dir'
        )
    folder = osp.abspath(folder)  # mmdet puts relative paths below the work dir
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    else:
        hook.update(draw=True, test_out_dir=folder)
