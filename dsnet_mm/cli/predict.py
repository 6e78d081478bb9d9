"""Detect objects in images or a video; write drawings and COCO JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dsnet_mm.errors import UserError, counted

EPILOG = 'Unreadable images in a folder are listed and skipped; the exit status is then 1.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config of the detector')
    parser.add_argument('checkpoint', help='checkpoint of the detector')
    parser.add_argument('source', help='an image, a folder of images, or a video')
    parser.add_argument('--out', default='predictions', metavar='DIR', help='default: predictions')
    parser.add_argument('--score', type=float, default=0.3, help='minimum score (default: 0.3)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if visible)')
    parser.add_argument('--force', action='store_true', help='overwrite files in DIR')


def run(args: argparse.Namespace) -> None:
    """Detect objects, and write drawings and predictions.json."""
    from dsnet_mm.data.pictures import VIDEOS, Video, write_video
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.predict import CocoResults, Predictor, on_frames, on_images
    from dsnet_mm.files import check_empty, written_whole

    if not 0 <= args.score <= 1:
        raise UserError(f'--score {args.score} must be between 0 and 1')
    source, out = Path(args.source), Path(args.out)
    check_empty(out, '--out', args.force)
    video = Video(source) if source.suffix.lower() in VIDEOS and source.is_file() else None
    target = out / (f'{source.stem}.mp4' if video else 'pictures')
    paths = [] if video else find_sources(source, target)
    predictor = Predictor(load_config(args.config), args.checkpoint, args.score, args.device)

    results = CocoResults(predictor.classes)
    skipped = 0
    if video:
        write_video(target, on_frames(video, predictor, results), video.rate)
    else:
        root = source if source.is_dir() else source.parent
        skipped = on_images(paths, root, target, predictor, results)
    if not results.images:
        raise UserError(f'no image in {source} can be read; save the images again as JPEG or PNG')
    file = out / 'predictions.json'
    with written_whole(file) as draft:
        draft.write_text(json.dumps(results.as_dict()), encoding='utf-8')
    found, seen = counted(len(results.annotations), 'object'), counted(len(results.images), 'image')
    print(f'{found} in {seen}')
    print(f'pictures   {target}')
    print(f'COCO JSON  {file}')
    if skipped:
        raise UserError(
            f'{skipped} of {len(paths)} images cannot be read and are missing in {file}; save the '
            'images listed above again as JPEG or PNG'
        )


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
