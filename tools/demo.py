"""Train, evaluate and draw a small DS-Net detector on synthetic shapes; `make demo` calls it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from dsnet_mm.data.shapes import ShapesDetection
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.evaluate import evaluate
from dsnet_mm.engine.options import check_at_least_one
from dsnet_mm.engine.train import train
from dsnet_mm.environment import configs_dir
from dsnet_mm.errors import run_cli
from dsnet_mm.files import make_folder

CONFIG = configs_dir() / 'demo' / 'retinanet_dsnet_mini_shapes.py'
SIZE = 160  # pixels; image_scale of the config
SHEET = (2, 3)  # rows and columns of the contact sheet


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data-root', default='data/shapes', help='folder of the shapes')
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder of all results')
    parser.add_argument('--train', type=int, default=2000, help='training images')
    parser.add_argument('--val', type=int, default=100, help='validation images')
    parser.add_argument('--epochs', type=int, default=10, help='training epochs')
    return parser.parse_args()


def step(title: str) -> None:
    print(f'\n=== {title}', flush=True)


def write_contact_sheet(pictures: list[Path], file: Path) -> None:
    """Tile the first pictures, all of one size, into one of twice their size."""
    rows, columns = SHEET
    images = [cv2.imread(str(picture)) for picture in pictures[: rows * columns]]
    lines = [np.hstack(images[row * columns : (row + 1) * columns]) for row in range(rows)]
    sheet = cv2.resize(np.vstack(lines), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(file), sheet)


def main() -> None:
    args = parse_args()
    check_at_least_one(args, 'train', 'val', 'epochs')
    work_dir = Path(args.work_dir)
    make_folder(work_dir, '--work-dir')  # before minutes of drawing
    shapes = ShapesDetection(train=args.train, val=args.val, size=SIZE)

    step(f'1/4 Shapes: {shapes.train} images to learn from, {shapes.val} to be tested on')
    shapes.write(args.data_root)

    step('2/4 Training')
    start = time.monotonic()
    options = dict(
        work_dir=args.work_dir,
        data_root=args.data_root,
        cfg_options={'train_cfg.max_epochs': args.epochs, 'param_scheduler.1.end': args.epochs},
    )
    train(load_config(str(CONFIG), **options), resume='auto')
    minutes = (time.monotonic() - start) / 60

    step('3/4 Evaluation on the images kept apart')
    checkpoint = (work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()
    pictures = work_dir / 'pictures'
    metrics = evaluate(load_config(str(CONFIG), **options), checkpoint, show_dir=str(pictures))

    step('4/4 Results')
    sheet = work_dir / 'detections.jpg'
    write_contact_sheet(sorted(pictures.glob('*')), sheet)
    # mmdet reports nothing where nothing was detected
    box_ap = metrics.get('coco/bbox_mAP', 0.0)
    print(f'box AP          {box_ap:.3f}, on {shapes.val} images never seen')
    print(f'training        {minutes:.1f} minutes in this run; to train anew, delete {work_dir}')
    print(f'checkpoint      {checkpoint}')
    print(f'logs            {work_dir}')
    print(f'detections      {sheet}, one by one in {pictures} (left: truth, right: detected)')


if __name__ == '__main__':
    run_cli(main)
