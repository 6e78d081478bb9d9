"""Draw what a block of DS-Net or GLNet attends to in an image."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsnet_mm.errors import UserError

from .options import picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config of the detector')
    parser.add_argument('checkpoint', help='checkpoint of the detector')
    parser.add_argument('image', help='an image')
    parser.add_argument('--stage', type=int, default=3, help='1 to 4 (default: 3)')
    parser.add_argument('--block', type=int, default=-1, help='1 or more (default: the last one)')
    parser.add_argument(
        '--at', nargs=2, type=int, metavar=('X', 'Y'), help='a pixel (default: the center)'
    )
    parser.add_argument(
        '--out', type=picture, default='streams.png', metavar='FILE', help='.png or .svg'
    )
    parser.add_argument('--force', action='store_true', help='overwrite FILE')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if visible)')


def run(args: argparse.Namespace) -> None:
    """Run the detector, and draw the maps of one block."""
    import mmcv

    from dsnet_mm.analysis.streams import covered, draw, find_block, read, record
    from dsnet_mm.data.pictures import read_image
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.predict import Predictor
    from dsnet_mm.files import check_free

    out = Path(args.out)
    check_free(out, args.force)
    path = Path(args.image)
    if not path.is_file():
        raise UserError(
            f'{path} {"is a folder" if path.is_dir() else "does not exist"}; pass an image'
        )
    image = read_image(path)
    height, width = image.shape[:2]
    x, y = args.at or (width // 2, height // 2)
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(
            f'--at {x} {y} is outside {path}; pass X below {width} and Y below {height}'
        )
    predictor = Predictor(load_config(args.config), args.checkpoint, device=args.device)
    block = find_block(predictor.inferencer.model.backbone, args.stage, args.block)
    found, seen = record(block, lambda: predictor.sample(image))
    share = covered(found)
    maps = read(block, seen, (y / height * share[0], x / width * share[1]))
    title = f'stage {args.stage}, block {args.block if args.block > 0 else "last"}'
    draw(mmcv.bgr2rgb(image), maps, (y, x), share, out, title)
    print(f'written  {out}')
