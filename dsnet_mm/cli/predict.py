"""Detect objects in images or a video; write drawings and COCO JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dsnet_mm.errors import UserError, counted

from .options import (
    add_precision,
    add_runtime,
    add_settings,
    check_graph,
    read_settings,
    refuse_for_graph,
)

if TYPE_CHECKING:
    from dsnet_mm.data.predictions import Detector

EPILOG = (
    'Unusable images in a folder are listed and skipped; the exit status is then 1. A graph runs '
    'without PyTorch and OpenMMLab.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('model', help='config of the detector, or a graph (.onnx) of `export`')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of the detector; not for a graph')
    parser.add_argument('source', help='an image, a folder of images, or a video')
    parser.add_argument('--out', default='predictions', metavar='DIR', help='default: predictions')
    parser.add_argument('--score', type=float, default=0.3, help='minimum score (default: 0.3)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if visible)')
    add_precision(parser)
    add_settings(
        parser, 'replace settings of the config, such as model.backbone.max_grid_cells=1050'
    )
    add_runtime(parser)
    parser.add_argument('--force', action='store_true', help='overwrite files in DIR')


def run(args: argparse.Namespace) -> None:
    """Detect objects, and write drawings and predictions.json."""
    from dsnet_mm.data.pictures import VIDEOS, Video, write_video
    from dsnet_mm.data.predictions import CocoResults, Painter, on_frames, on_images
    from dsnet_mm.files import check_empty, written_whole

    check_graph(args, ' SOURCE')
    if not 0 <= args.score <= 1:
        raise UserError(f'--score {args.score} must be between 0 and 1')
    source, out = Path(args.source), Path(args.out)
    check_empty(out, '--out', args.force)
    video = Video(source) if source.suffix.lower() in VIDEOS and source.is_file() else None
    target = out / (f'{source.stem}.mp4' if video else 'pictures')
    paths = [] if video else find_sources(source, target)
    detector = load_detector(args)
    painter = Painter(detector.classes, detector.palette)
    if painter.warning:
        print(f'warning: {painter.warning}', file=sys.stderr)

    results = CocoResults(detector.classes)
    skipped = 0
    if video:
        write_video(target, on_frames(video, detector, painter, results), video.rate)
    else:
        root = source if source.is_dir() else source.parent
        skipped = on_images(paths, root, target, detector, painter, results)
    if not results.images:
        raise UserError(f'no image in {source} can be used; see the reasons above')
    file = out / 'predictions.json'
    with written_whole(file) as draft:
        draft.write_text(json.dumps(results.as_dict()), encoding='utf-8')
    found, seen = counted(len(results.annotations), 'object'), counted(len(results.images), 'image')
    print(f'{found} in {seen}')
    print(f'pictures   {target}')
    print(f'COCO JSON  {file}')
    if skipped:
        raise UserError(
            f'{skipped} of {len(paths)} images cannot be used and are missing in {file}; see the '
            'reasons above'
        )


def load_detector(args: argparse.Namespace) -> Detector:
    """Open a graph, or build a model from its config and checkpoint."""
    if args.checkpoint is None:
        from dsnet_mm.deploy.graph import Graph

        refuse_for_graph(args, 'cfg_options', 'precision')
        graph = Graph(args.model, args.runtime, args.device, args.score)
        if args.score < graph.lowest_score:
            print(
                f'note: {args.model} holds no detections below {graph.lowest_score}, the score_thr '
                'of its config',
                file=sys.stderr,
            )
        return graph
    from dsnet_mm.environment import register_modules

    register_modules()
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.predict import Predictor

    cfg = load_config(args.model, cfg_options=read_settings(args.cfg_options))
    return Predictor(cfg, args.checkpoint, args.score, args.device, args.precision)


def find_sources(source: Path, pictures: Path) -> list[Path]:
    """Find the images, without earlier drawings in `pictures`.

    Raises:
        UserError: If there is no image.
    """
    from dsnet_mm.data.pictures import find_images

    drawn = pictures.resolve()
    paths = [path for path in find_images(source) if drawn not in path.resolve().parents]
    if not paths:
        raise UserError(
            f'{source} contains only earlier drawings; choose another folder with --out'
        )
    return paths
