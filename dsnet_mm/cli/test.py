"""Evaluate a checkpoint with the metrics of its config, or the box and mask AP of a graph."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsnet_mm.errors import UserError

from .options import (
    add_precision,
    add_run_options,
    add_runtime,
    check_graph,
    read_settings,
    refuse_for_graph,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('model', help='config, or a graph (.onnx) of `export`')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint; not for a graph')
    add_run_options(parser)
    parser.add_argument(
        '--ann', metavar='FILE', help="evaluate on this annotation file, not the config's"
    )
    parser.add_argument(
        '--images', metavar='DIR', help="folder of the images of --ann (default: the config's)"
    )
    parser.add_argument('--out', metavar='FILE', help='write the predictions to this .pkl file')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='write images with the predictions to this folder'
    )
    parser.add_argument('--force', action='store_true', help='overwrite FILE and files in DIR')
    parser.add_argument(
        '--fuse',
        action='store_true',
        help='fold each BatchNorm into the preceding convolution, which is exact up to rounding',
    )
    add_precision(parser)
    add_runtime(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate the checkpoint or the graph."""
    check_graph(args)
    if args.checkpoint is None:
        evaluate_graph(args)
        return
    from dsnet_mm.environment import register_modules

    register_modules()
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.evaluate import evaluate
    from dsnet_mm.files import check_empty, check_free

    if args.images and not args.ann:
        raise UserError(f'--images {args.images} needs --ann, the annotation file of the images')
    if args.out:
        check_free(Path(args.out), args.force)
    if args.show_dir:
        check_empty(Path(args.show_dir), '--show-dir', args.force)
    options = read_settings(args.cfg_options)
    cfg = load_config(args.model, args.work_dir, options, args.data_root, args.launcher)
    names = ('out', 'show_dir', 'fuse', 'ann', 'images', 'precision')
    evaluate(cfg, args.checkpoint, **{name: getattr(args, name) for name in names})


def evaluate_graph(args: argparse.Namespace) -> None:
    """Print the average precisions of a graph."""
    refuse_for_graph(
        args, 'work_dir', 'data_root', 'cfg_options', 'out', 'show_dir', 'fuse', 'precision'
    )
    if not (args.ann and args.images):
        raise UserError(
            f'the graph {args.model} names no dataset; pass --ann FILE and --images DIR'
        )
    from rich.progress import track

    from dsnet_mm.deploy.evaluate import Evaluation
    from dsnet_mm.deploy.graph import Graph

    evaluation = Evaluation(Graph(args.model, args.runtime), args.ann, args.images)
    for image in track(evaluation.images, 'detecting'):
        evaluation.detect(image)
    metrics = evaluation.metrics()
    if not metrics:
        print(f'{args.model} detects nothing on these images')
    for name, value in metrics.items():
        print(f'{name:16} {value:.4f}')
