"""Evaluate a checkpoint."""

from __future__ import annotations

import copy
import logging
import os.path as osp
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.logging import print_log

from dsnet_mm.data.locate import check_data, find_datasets, find_evaluators, type_name
from dsnet_mm.errors import UserError
from dsnet_mm.files import make_folder

from .annotation_files import Checked, check_annotations, handed_over
from .building import bare_model, build_runner, stop_workers
from .checkpoint import check_fit, read_checkpoint
from .config import scope_of
from .distributed import rank_of
from .explain_errors import explained
from .half_precision import check_bfloat16, use_half_precision
from .hooks import CheckClassesHook, ShowClassesHook


def evaluate(
    cfg: Config,
    checkpoint: str,
    out: str | None = None,
    show_dir: str | None = None,
    fuse: bool = False,
    ann: str | None = None,
    images: str | None = None,
    precision: str | None = None,
) -> dict[str, float]:
    """Evaluate a checkpoint on the test dataset of a config, or on another COCO file.

    Args:
        cfg: A config, see :func:`.config.load_config`.
        checkpoint: Path of the checkpoint.
        out: File for the predictions, ``.pkl``.
        show_dir: Folder for the images with drawn predictions.
        fuse: Whether to fold each BatchNorm into the convolution before it.
        ann: Annotation file to evaluate on, instead of the file in the config.
        images: Folder of the images of ``ann``, by default the folder in the config.
        precision: 'bf16' computes backbone and neck in bfloat16; 'fp32' or None in float32.

    Returns:
        The metrics by name.

    Raises:
        UserError: If data are missing, the checkpoint does not fit, a folder is not writable, or
            this machine has no bfloat16.
    """
    if out and not out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {out} must end in .pkl, the only format of stored predictions')
    if fuse and any(type_name(hook) == 'EMAHook' for hook in cfg.get('custom_hooks') or []):
        raise UserError(
            f'--fuse does not work with the EMAHook of {cfg.filename}, which exchanges weights; '
            'remove one of them'
        )
    if precision == 'bf16':
        check_bfloat16()
    set_test_part(cfg, ann, images)
    check_data(cfg, ('test',))
    checked = check_annotations(cfg, ('test',)) if rank_of(cfg.launcher) == 0 else Checked()
    for warning in checked.warnings:
        print_log(warning, logger='current', level=logging.WARNING)
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
            dumps = dict(mmdet=DumpDetResults, mmseg=DumpLabelMaps)
            dump = dumps.get(scope_of(cfg), DumpResults)
            runner.test_evaluator.metrics.append(dump(out_file_path=out))
        if fuse:
            runner.load_or_resume()
            fuse_conv_bn(bare_model(runner))
        if precision == 'bf16':
            use_half_precision(bare_model(runner), torch.bfloat16)
        for hook in (CheckClassesHook(), ShowClassesHook()):
            runner.register_hook(hook)
        with handed_over(checked.contents):
            checked.contents.clear()
            metrics = runner.test()
        stop_workers(runner)
        return metrics


class DumpLabelMaps(DumpResults):
    """Store predicted label maps, but not the scores of all classes, which take gigabytes."""

    def process(self, data_batch: Any, predictions: Sequence[dict[str, Any]]) -> None:
        """Collect a batch."""
        for sample in predictions:
            label_map = sample['pred_sem_seg']['data'].short()
            kept = {k: v for k, v in sample.items() if k not in ('seg_logits', 'gt_sem_seg')}
            super().process(data_batch, [{**kept, 'pred_sem_seg': label_map}])


def draw_predictions(cfg: Config, folder: str) -> None:
    """Configure the visualization hook of ``cfg`` to draw every test image into ``folder``.

    Raises:
        UserError: If ``cfg`` has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if not hook:
        raise UserError(
            f'{cfg.filename} has no visualization hook; add the DetVisualizationHook of mmdet, the '
            'VisualizationHook of mmpretrain or the SegVisualizationHook of mmsegmentation to its '
            'default_hooks, or omit --show-dir'
        )
    folder = osp.abspath(folder)  # mmdet puts relative paths below the work dir
    if scope_of(cfg) == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    elif scope_of(cfg) == 'mmseg':  # whose hook has no setting for the folder
        hook.update(draw=True, interval=1)
        cfg.setdefault('visualizer', dict(type='SegLocalVisualizer'))
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend', img_save_dir=folder)]
    else:
        hook.update(draw=True, test_out_dir=folder)


def set_test_part(cfg: Config, ann: str | None = None, images: str | None = None) -> None:
    """Let the test part of ``cfg`` read an annotation file and its images, in place.

    A config without a test part is tested as it is validated.

    Raises:
        UserError: If the config has neither part, or ``ann`` is given for another model than a
            detector.
    """
    for name in ('dataloader', 'evaluator', 'cfg'):
        part = cfg.get(f'test_{name}')
        if part is None:
            part = cfg.get(f'val_{name}')
        if part is None:
            raise UserError(
                f'{cfg.filename} has neither test_{name} nor val_{name}; set test_dataloader, '
                'test_evaluator and test_cfg, such as in configs/retinanet_dsnet_s_fpn_1x_coco.py'
            )
        if cfg.get(f'test_{name}') is None:
            cfg[f'test_{name}'] = dict(type='TestLoop') if name == 'cfg' else copy.deepcopy(part)
    if not ann:
        return
    if scope_of(cfg) != 'mmdet':
        raise UserError(
            f'--ann {ann} is for detectors, and {cfg.filename} is not the config of a detector; '
            'omit --ann, and pass the folder of other data with --data-root'
        )
    dataset = next(find_datasets(cfg, ('test',)))
    folder = images or osp.join(dataset.get('data_root') or '', dataset.data_prefix.img)
    dataset.update(data_root='', ann_file=ann, data_prefix=dict(img=folder))
    cfg.test_dataloader.dataset = dataset  # without wrappers, which may join several files
    for evaluator in find_evaluators(cfg, ('test',)):
        if 'ann_file' in evaluator:
            evaluator.ann_file = ann
