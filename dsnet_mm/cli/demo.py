"""Train, evaluate and draw a small DS-Net detector on synthetic shapes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from .options import at_least_one

SIZE = 160  # pixels; image_scale of the config
SHEET = (2, 3)  # rows and columns of the contact sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        '--data-root', default='data/shapes', metavar='DIR', help='folder of the shapes'
    )
    parser.add_argument(
        '--work-dir', default='work_dirs/demo', metavar='DIR', help='folder of all results'
    )
    parser.add_argument('--train', type=at_least_one, default=2000, help='training images')
    parser.add_argument('--val', type=at_least_one, default=100, help='validation images')
    parser.add_argument('--epochs', type=at_least_one, default=10, help='training epochs')


def run(args: argparse.Namespace) -> None:
    """Draw a dataset, train, evaluate, and print the results."""
    from dsnet_mm.data.shapes import ShapesDetection
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.evaluate import evaluate
    from dsnet_mm.engine.train import train
    from dsnet_mm.environment import configs_dir
    from dsnet_mm.files import make_folder

    config = str(configs_dir() / 'demo' / 'retinanet_dsnet_mini_shapes.py')
    work_dir = Path(args.work_dir)
    make_folder(work_dir, '--work-dir')  # fail before minutes of drawing
    shapes = ShapesDetection(train=args.train, val=args.val, size=SIZE)

    step(f'1/4 Shapes: {shapes.train} training and {shapes.val} validation images')
    shapes.write(args.data_root)

    step('2/4 Training')
    start = time.monotonic()
    options = dict(
        work_dir=args.work_dir,
        data_root=args.data_root,
        cfg_options={'train_cfg.max_epochs': args.epochs},
    )
    train(load_config(config, **options), resume='auto')
    minutes = (time.monotonic() - start) / 60

    step('3/4 Evaluation on the validation images')
    checkpoint = (work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()
    pictures = work_dir / 'pictures'
    metrics = evaluate(load_config(config, **options), checkpoint, show_dir=str(pictures))

    step('4/4 Results')
    sheet = work_dir / 'detections.jpg'
    write_contact_sheet(sorted(pictures.glob('*')), sheet)
    # mmdet reports no AP without detections
    box_ap = metrics.get('coco/bbox_mAP', 0.0)
    print(f'box AP          {box_ap:.3f}, on {shapes.val} unseen images')
    print(f'training        {minutes:.1f} minutes in this run; to train again, delete {work_dir}')
    print(f'checkpoint      {checkpoint}')
    print(f'logs            {work_dir}')
    print(f'detections      {sheet}, single pictures in {pictures} (left: truth)')


def step(title: str) -> None:
    """Print a heading."""
    print(f'\n=== {title}', flush=True)


def write_contact_sheet(pictures: list[Path], file: Path) -> None:
    """Tile the first pictures, which have equal sizes, and double the resolution."""
    import cv2
    import numpy as np
    from mmcv import imread

    rows, columns = SHEET
    images = [imread(str(picture)) for picture in pictures[: rows * columns]]
    lines = [np.hstack(images[row * columns : (row + 1) * columns]) for row in range(rows)]
    sheet = cv2.resize(np.vstack(lines), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(file), sheet)
