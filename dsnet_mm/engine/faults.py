"""What can befall a long training, and how it ends or goes on."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import os.path as osp
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dsnet_mm.data.image_files import SUFFIXES, State, open_images
from dsnet_mm.data.locate import find_paths
from dsnet_mm.errors import UserError
from dsnet_mm.files import make_folder

from .checkpoint import read_checkpoint

LOCK = '.training'  # in a work dir while a training runs there
NOT_FINITE = 'is no finite number at iteration'  # in the log of a training that was stopped for it
OUT_OF_MEMORY = re.compile(r"CUDA out of memory|DefaultCPUAllocator: can't allocate memory")
SHARED_MEMORY = re.compile(r'out of shared memory|shared memory object|</?torch_\d+_')
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (
    errno.EACCES,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
)
EMPTY_SET = re.compile('need at least one array to concatenate')  # of mmengine's BaseDataset
OF_WRITING = (errno.EFBIG, errno.EIO, errno.ESTALE)  # come without the name of the file
# what OpenCV and Pillow say of a file without saying of which
NAMELESS = re.compile('imgcodecs|cannot identify image file|image file is truncated')

_held: set[TextIO] = set()  # locks of this process


@HOOKS.register_module()
class StopAtNaNHook(Hook):
    """Stop a training whose loss is no finite number, before it writes a checkpoint.

    Args:
        interval: Iterations from one look to the next; a look waits for the GPU.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self.loss: torch.Tensor | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Look at the loss now and then."""
        self.loss = (outputs or {}).get('loss')
        if self.every_n_train_iters(runner, self.interval):
            self.check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the last loss and at the weights."""
        self.check(runner)
        for name, weight in checkpoint['state_dict'].items():
            if weight.is_floating_point() and not weight.isfinite().all():
                self.stop(runner, f'the weight {name}')

    def check(self, runner: Runner) -> None:
        """Stop if the last loss is not finite."""
        if self.loss is not None and not torch.isfinite(self.loss).all():
            self.stop(runner, 'the loss')

    @staticmethod
    def stop(runner: Runner, what: str) -> None:
        """Log the error, which is found there when runs are compared, and raise it."""
        sentence = (
            f'{what} {NOT_FINITE} {runner.iter + 1} of {runner.work_dir}; any checkpoints there '
            'are older and whole: set optim_wrapper.clip_grad or leave --amp out and go on with '
            '--resume, or start anew with a lower optim_wrapper.optimizer.lr'
        )
        print_log(sentence, logger='current', level=logging.ERROR)
        raise UserError(sentence)


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest checkpoint in ``work_dir`` that is whole.

    A training that is killed while it writes leaves a part of a file, which is passed over.
    """
    for path in checkpoints_in(work_dir):
        try:
            read_checkpoint(str(path))
        except UserError as error:
            print_log(f'Passing over a checkpoint: {error}', logger='current')
        else:
            return path
    return None


def checkpoints_in(work_dir: str | Path) -> list[Path]:
    """Return the checkpoints that trainings left in ``work_dir``, the latest first."""
    numbers = {
        path: int(match[1])
        for path in Path(work_dir).glob('*.pth')
        if (match := re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name))
    }
    return sorted(numbers, key=numbers.__getitem__, reverse=True)


@contextmanager
def only_training_in(work_dir: str | Path, rank: int = 0) -> Iterator[None]:
    """Hold ``work_dir`` for one training, of whose processes the one of rank 0 does so.

    Raises:
        UserError: If another process trains there, or nothing can be written there.
    """
    make_folder(work_dir, '--work-dir')
    with open(Path(work_dir) / LOCK, 'a+', encoding='utf-8') as file:
        if rank == 0:
            _lock(file, work_dir)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)


def _close_in_child() -> None:
    """Keep a process that loads data from holding the folder when the training was killed."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_in_child)


def _lock(file: TextIO, work_dir: str | Path) -> None:
    try:
        # the system lets go of it when the process ends, however that comes about
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise UserError(
            f'{work_dir} is in use by a training of process {file.read().strip() or "?"}; wait '
            'for its end or name another folder by --work-dir'
        ) from error
    except OSError:
        return  # a file system without locks
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


@contextmanager
def explained(cfg: Config, again: str) -> Iterator[None]:
    """Turn faults of disks and data in a run of ``cfg`` into one sentence.

    Args:
        cfg: The config of the run.
        again: What to do when a fault of a disk is mended.

    Raises:
        UserError: Instead of an error that a user can mend.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        sentence = explain(error, cfg, again)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def explain(error: BaseException, cfg: Config, again: str) -> str | None:
    """Say what an error of a run means and what to do, or return None if that is not known."""
    if isinstance(error, OSError) and (sentence := _explain_system(error, cfg, again)):
        return sentence
    if isinstance(error, RuntimeError) and (sentence := _explain_memory(str(error))):
        return sentence
    if isinstance(error, (ValueError, KeyError, TypeError, AssertionError)):
        for path in find_paths(cfg):
            fault = _fault_of_annotations(path) if path.endswith('.json') else None
            if fault:
                return f'{path} {fault}; fetch it again, or look at it with tools/check_data.py'
    if EMPTY_SET.search(str(error)):
        files = ' and '.join(dict.fromkeys(path for path in find_paths(cfg) if osp.isfile(path)))
        return (
            f'no image of {files} is left for one of the data sets of {cfg.filename}, such as when '
            'the categories of the file are not its classes; let tools/check_data.py with --config '
            'tell them apart'
        )
    unknown = re.search(
        r"(?:class `(\w+)`|(\w+)\.__init__\(\)).*unexpected keyword argument '(\w+)'", str(error)
    )
    if isinstance(error, TypeError) and unknown:
        return (
            f'{cfg.filename} or --cfg-options gives {unknown[1] or unknown[2]} the setting '
            f'{unknown[3]}, which it does not have; correct its name'
        )
    # text from another process quotes the line of the program first
    if images := re.findall(r'failed to load image: (.+)', str(error)):
        return _unreadable(images[-1].strip())
    if NAMELESS.search(str(error)):
        return _unreadable(*_find_broken_image(cfg))
    return None


def _explain_system(error: OSError, cfg: Config, again: str) -> str | None:
    number, reason, path = error.errno, error.strerror, error.filename
    # an error of a process that loads data arrives as text
    if said := re.search(r"\[Errno (\d+)\] ([^:\n]+)(?:: '(.+?)')?", str(error)):
        number, reason, path = int(said[1]), said[2], path or said[3]
    if number in FULL:
        return f'the disk of {path or cfg.work_dir} is full; free some space and {again}'
    if path and str(path).lower().endswith(SUFFIXES):
        return _unreadable(path, reason)
    if number in REFUSED and (path or number in OF_WRITING):
        place = path or f'a file in {cfg.work_dir}'
        return f'{place} cannot be read or written ({reason}); mend that and {again}'
    return None


def _explain_memory(text: str) -> str | None:
    """A GPU's, a machine's, or that in which processes hand over what they loaded."""
    if SHARED_MEMORY.search(text):
        return (
            'the processes that load data are out of shared memory (/dev/shm); give more of it, in '
            'Docker by --shm-size, or lower train_dataloader.num_workers by --cfg-options'
        )
    if OUT_OF_MEMORY.search(text):
        return (
            f'out of memory ({text.strip().splitlines()[0]}); by --cfg-options lower '
            'train_dataloader.batch_size, with --auto-scale-lr, or set '
            'model.backbone.with_cp=True, which computes blocks anew instead of keeping them'
        )
    return None


def _unreadable(image: str, reason: str = '') -> str:
    return (
        f'{image} cannot be read as an image{reason and f" ({reason})"}; fetch it again or take '
        'it out of the annotations, and look for others with tools/check_data.py'
    )


def _find_broken_image(cfg: Config) -> tuple[str, str]:
    """Return the smallest image file of ``cfg`` that cannot be read, and why; empty ones first."""
    folders = list(dict.fromkeys(path for path in find_paths(cfg) if osp.isdir(path)))
    paths = {
        osp.join(folder, name): None
        for top in folders
        for folder, _, names in os.walk(top)
        for name in names
        if name.lower().endswith(SUFFIXES)
    }
    by_size = sorted(filter(osp.isfile, paths), key=osp.getsize)
    for path, image in zip(by_size, open_images(by_size)):
        if image.state is State.BROKEN:
            return path, image.reason
    return f'one of the images in {", ".join(folders)}', ''


def _fault_of_annotations(path: str) -> str | None:
    try:
        data = json.loads(Path(path).read_bytes())
    except ValueError as error:
        return f'is no whole JSON ({error})'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    missing = {'images', 'annotations', 'categories'} - set(data if isinstance(data, dict) else ())
    return f'lacks {", ".join(sorted(missing))} of COCO annotations' if missing else None
