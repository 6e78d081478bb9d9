"""Write a complete fine-tuning config for a dataset in COCO format."""

from __future__ import annotations

import argparse
import shlex

EPILOG = 'The config contains absolute paths, so commands can read it from any folder.'
BASE = 'retinanet_dsnet_s_finetune'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'annotations',
        nargs='+',
        metavar='ANN',
        help='annotation files for training and validation, or a folder with train.json and '
        'val.json, as `dsnet-mm convert-data` writes them',
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='the new config (.py)')
    parser.add_argument(
        '--images',
        nargs='+',
        metavar='DIR',
        help='folder to which file names are relative, or one folder each for training and '
        'validation (default: the nearest folder that holds all images)',
    )
    parser.add_argument(
        '--base',
        default=BASE,
        metavar='NAME',
        help=f'a config of configs/finetune, or the path of a config (default: {BASE})',
    )
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help='initial weights, a file or an address such as dsnet://small_in1k (default: those of '
        'the base)',
    )
    parser.add_argument('--force', action='store_true', help='overwrite FILE')


def run(args: argparse.Namespace) -> None:
    """Write the config, and print the next commands."""
    from pathlib import Path

    from dsnet_mm.engine.finetune_config import find_base, find_files, read_split, write_config
    from dsnet_mm.errors import UserError
    from dsnet_mm.files import check_free

    out = Path(args.out)
    if out.suffix != '.py':
        raise UserError(f'--out {out} must end in .py')
    check_free(out, args.force)
    folders = args.images or [None]
    if len(folders) > 2:
        raise UserError(
            '--images accepts one or two folders; pass those of training and validation'
        )
    base = find_base(args.base)
    files = find_files(args.annotations)
    train, val = (
        read_split(file, folder)
        for file, folder in zip(files, (folders[0], folders[-1]), strict=True)
    )
    weights = write_config(out, base, train, val, args.weights)
    print(f'written  {out}')
    if '://' not in weights and not Path(weights).is_file():
        advice = 'run `dsnet-mm demo` first, or ' if weights.startswith('work_dirs/demo') else ''
        print(f'note: the initial weights {weights} are missing; {advice}pass --weights FILE.')
    if 'mask' in base.stem and (without := train.objects - train.masks):
        print(f'note: {without} of {train.objects} objects have no mask in {files[0]}.')
    print('next:')
    for split, file in ((train, files[0]), (val, files[1])):
        words = ('dsnet-mm', 'check-data', str(file), str(split.images), '--config', str(out))
        print(f'  {shlex.join(words)}')
    print(f'  {shlex.join(("dsnet-mm", "train", str(out)))}')
