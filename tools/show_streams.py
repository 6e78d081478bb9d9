"""Draw what the local and the global stream of a DS-Block see on an image."""

from __future__ import annotations

import dsnet_mm  # noqa: F401  # isort: skip  # before PyTorch, whose threads it limits

import argparse
from pathlib import Path

import mmcv

from dsnet_mm.analysis.streams import draw, find_block, look
from dsnet_mm.data.pictures import read_image
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.predict import Predictor
from dsnet_mm.errors import UserError, run_cli
from dsnet_mm.files import check_free


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="a detector's config")
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('image', help='an image')
    parser.add_argument('--stage', type=int, default=3, help='1 to 4 (default: 3)')
    parser.add_argument('--block', type=int, default=-1, help='from 1 on (default: the last one)')
    parser.add_argument(
        '--at', nargs=2, type=int, metavar=('X', 'Y'), help='a pixel (default: the centre)'
    )
    parser.add_argument('--out', default='streams.png', metavar='FILE', help='.png or .svg')
    parser.add_argument('--force', action='store_true', help='write over FILE')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = Path(args.out)
    if out.suffix not in ('.png', '.svg'):
        raise UserError(f'--out {out} must end in .png or .svg')
    check_free(out, args.force)
    path = Path(args.image)
    if not path.is_file():
        raise UserError(
            f'{path} {"is a folder" if path.is_dir() else "does not exist"}; give an image'
        )
    image = read_image(path)
    height, width = image.shape[:2]
    x, y = args.at or (width // 2, height // 2)
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(f'--at {x} {y} is outside of {path}, which has {width}x{height} pixels')
    predictor = Predictor(load_config(args.config), args.checkpoint, device=args.device)
    block = find_block(predictor.inferencer.model.backbone, args.stage, args.block)
    shapes = predictor(image)[0].metainfo
    covered = tuple(
        side / padded
        for side, padded in zip(shapes['img_shape'], shapes['batch_input_shape'], strict=True)
    )
    place = (y / height * covered[0], x / width * covered[1])
    streams = look(block, lambda: predictor(image), place)
    title = f'stage {args.stage}, block {args.block if args.block > 0 else "last"}'
    draw(mmcv.bgr2rgb(image), streams, (y, x), covered, out, title)
    print(f'drawn  {out}')


if __name__ == '__main__':
    run_cli(main)
