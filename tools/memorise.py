"""Train a detector from scratch on a few images until it knows them by heart."""

from __future__ import annotations

import dsnet_mm  # noqa: F401  # isort: skip  # before PyTorch, whose threads it limits

import argparse
import json
import os.path as osp
from pathlib import Path

from mmengine.logging import MessageHub

from dsnet_mm.data.locate import check_data
from dsnet_mm.engine.faults import only_training_in
from dsnet_mm.engine.launch import load_config, train
from dsnet_mm.engine.memorise import BATCH, EPOCHS, STREAMS, pick_images, set_up_memorising
from dsnet_mm.engine.options import check_at_least_one
from dsnet_mm.errors import UserError, counted, run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The images are those of the training set whose smallest object is largest. A '
        'detector that learns reaches box AP 0.9 on them, one with masks also mask AP 0.8, '
        'and then ends; the numbers tell nothing of images that it did not see.',
    )
    parser.add_argument('config', help="a detector's config")
    parser.add_argument('--data-root', metavar='DIR', help="folder of the data, not the config's")
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument('--images', type=int, default=8, metavar='N', help='default: 8')
    parser.add_argument(
        '--passes', type=int, default=1000, metavar='N', help='images shown at most (default: 1000)'
    )
    parser.add_argument('--cut', choices=STREAMS, help='cut the gradient of this stream')
    parser.add_argument(
        '--resume', action='store_true', help='go on from the latest checkpoint in the work dir'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_at_least_one(args, 'images', 'passes')
    name = osp.splitext(osp.basename(args.config))[0] + (f'_cut_{args.cut}' if args.cut else '')
    work_dir = Path(args.work_dir or osp.join('work_dirs', 'memorise', name))
    cfg = load_config(args.config, str(work_dir), data_root=args.data_root)
    check_data(cfg, ('train',))
    source = cfg.train_dataloader.dataset
    if not source.get('ann_file'):
        raise UserError(
            f'{args.config} trains on a {source.type} that names no file of annotations; give the '
            'config of a detector that trains on one set in COCO format'
        )
    chosen = pick_images(osp.join(source.data_root, source.ann_file), args.images)
    ann_file = work_dir / 'images.json'
    set_up_memorising(cfg, ann_file, chosen, args.passes, args.cut)
    with only_training_in(work_dir):  # which would lose its own images
        ann_file.write_text(json.dumps(chosen), encoding='utf-8')
    metrics = train(cfg, resume='auto' if args.resume else None)
    epochs = min(MessageHub.get_current_instance().get_info('epoch') + 1, EPOCHS)
    shown = epochs * cfg.train_dataloader.dataset.times * args.images
    print(f'\n{name} after {counted(shown, "image")} in batches of {BATCH}:')
    if not metrics:
        print(f'  no AP: nothing was found, or nothing was left to train; {work_dir} has the logs')
    for metric in ('bbox', 'segm'):
        if f'coco/{metric}_mAP' in metrics:
            print(f'  {metric} AP {metrics[f"coco/{metric}_mAP"]:.3f} on the images themselves')


if __name__ == '__main__':
    run_cli(main)
