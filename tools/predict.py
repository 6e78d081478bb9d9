"""Detect objects on images or a video: pictures with the detections, and JSON in COCO's form."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from dsnet_mm.engine.launch import load_config
from dsnet_mm.engine.predict import VIDEOS, CocoResults, Predictor, Video, find_images, read_image
from dsnet_mm.errors import UserError, run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="the detector's config")
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('source', help='an image, a folder of images, or a video')
    parser.add_argument('--out', default='predictions', metavar='DIR', help='default: predictions')
    parser.add_argument('--score', type=float, default=0.3, help='least score (default: 0.3)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    parser.add_argument('--force', action='store_true', help='write over what is in DIR')
    return parser.parse_args()


def named_images(paths: Iterable[Path], root: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in paths:
        yield str(path.relative_to(root)), read_image(path)


def named_frames(video: Video) -> Iterator[tuple[str, np.ndarray]]:
    for number, frame in enumerate(video):
        yield f'{number:06d}.jpg', frame


def main() -> None:
    args = parse_args()
    if not 0 <= args.score <= 1:
        raise UserError(f'--score {args.score} must be within 0 and 1')
    source, out = Path(args.source), Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not args.force:
        raise UserError(
            f'{out} stands already; name another folder by --out, or give --force to write over it'
        )
    is_video = source.suffix.lower() in VIDEOS and source.is_file()
    if is_video:
        frames = Video(source)
        total, items = len(frames) or None, named_frames(frames)
    else:
        paths = find_images(source)
        root = source if source.is_dir() else source.parent
        total, items = len(paths), named_images(paths, root)
    predictor = Predictor(load_config(args.config), args.checkpoint, args.score, args.device)

    results = CocoResults(predictor.classes)
    out.mkdir(parents=True, exist_ok=True)
    writer = None
    for name, image in track(items, 'detecting', total=total):
        found, drawn = predictor(image)
        results.add(name, found)
        if is_video:
            if writer is None:
                height, width = drawn.shape[:2]
                code = cv2.VideoWriter_fourcc(*'mp4v')
                target = out / f'{source.stem}.mp4'
                writer = cv2.VideoWriter(str(target), code, frames.rate, (width, height))
            writer.write(drawn)
        else:
            target = out / 'pictures' / name
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), drawn)
    if writer is not None:
        writer.release()
    file = out / 'predictions.json'
    file.write_text(json.dumps(results.as_dict()), encoding='utf-8')
    print(f'{len(results.annotations)} objects on {len(results.images)} images')
    print(f'drawn     {target if is_video else out / "pictures"}')
    print(f"in COCO's form  {file}")


if __name__ == '__main__':
    run_cli(main)
