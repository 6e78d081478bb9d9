"""Detect objects on images or a video: pictures with the detections, and JSON in COCO's form."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dsnet_mm.data.pictures import VIDEOS, Video, find_images, write_video
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.predict import CocoResults, Predictor, on_frames, on_images
from dsnet_mm.errors import UserError, counted, run_cli
from dsnet_mm.files import check_empty, written_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Of a folder, images that cannot be read are named and skipped, and the exit status '
        'is 1 at the end.',
    )
    parser.add_argument('config', help="the detector's config")
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('source', help='an image, a folder of images, or a video')
    parser.add_argument('--out', default='predictions', metavar='DIR', help='default: predictions')
    parser.add_argument('--score', type=float, default=0.3, help='least score (default: 0.3)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    parser.add_argument('--force', action='store_true', help='write over what is in DIR')
    return parser.parse_args()


def find_sources(source: Path, pictures: Path) -> list[Path]:
    """Find the images, without those that were drawn into ``pictures`` before.

    Raises:
        UserError: If there are none.
    """
    drawn = pictures.resolve()
    paths = [path for path in find_images(source) if drawn not in path.resolve().parents]
    if not paths:
        raise UserError(f'{source} is where the pictures go; name another folder by --out')
    return paths


def main() -> None:
    args = parse_args()
    if not 0 <= args.score <= 1:
        raise UserError(f'--score {args.score} must be within 0 and 1')
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
        raise UserError(f'none of the {len(paths)} images in {source} can be read; store them anew')
    file = out / 'predictions.json'
    with written_whole(file) as draft:
        draft.write_text(json.dumps(results.as_dict()), encoding='utf-8')
    found, seen = counted(len(results.annotations), 'object'), counted(len(results.images), 'image')
    print(f'{found} on {seen}')
    print(f'drawn     {target}')
    print(f"in COCO's form  {file}")
    if skipped:
        raise UserError(
            f'{skipped} of {len(paths)} images could not be read and are left out of {file}; '
            'store those that are named above anew'
        )


if __name__ == '__main__':
    run_cli(main)
