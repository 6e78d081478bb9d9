"""Turn errors of disks, data and memory into one sentence."""

from __future__ import annotations

import errno
import json
import os.path as osp
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from dsnet_mm.data.file_finder import IMAGES, files_below
from dsnet_mm.data.image_files import State, open_images
from dsnet_mm.data.locate import find_paths
from dsnet_mm.data.pictures import loses_a_side
from dsnet_mm.errors import UserError, one_line

OUT_OF_MEMORY = re.compile(r"CUDA out of memory|DefaultCPUAllocator: can't allocate memory")
SHARED_MEMORY = re.compile(r'out of shared memory|shared memory object|</?torch_\d+_')
FULL = (errno.ENOSPC, errno.EDQUOT)
EMPTY_SET = re.compile('need at least one array to concatenate')  # mmengine's BaseDataset
OF_WRITING = (errno.EFBIG, errno.EIO, errno.ESTALE)  # raised without the name of the file
OUT_OF_CLASSES = re.compile(r'Target (\d+) is out of bounds')  # PyTorch's cross entropy
# errors of OpenCV and Pillow that do not name the file
NAMELESS = re.compile('imgcodecs|cannot identify image file|image file is truncated')


@contextmanager
def explained(cfg: Config, again: str) -> Iterator[None]:
    """Turn an error that a user can fix into a UserError of one sentence.

    Args:
        cfg: The config of the run.
        again: What to do after a disk error is fixed.

    Raises:
        UserError: Instead of an error with a known cause.
    """
    try:
        yield
    except Exception as error:
        sentence = None if isinstance(error, UserError) else explain(error, cfg, again)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def explain(error: BaseException, cfg: Config, again: str) -> str | None:
    """Return the cause of an error and what to do, or None if the cause is unknown."""
    if isinstance(error, OSError) and (sentence := _explain_system(error, cfg, again)):
        return sentence
    if isinstance(error, RuntimeError) and (sentence := _explain_memory(str(error))):
        return sentence
    if isinstance(error, (ValueError, KeyError, TypeError, AssertionError)):
        for path in find_paths(cfg):
            fault = _fault_of_json(path) if path.endswith('.json') else None
            if fault:
                return f'{path} {fault}; download it again, or run `dsnet-mm check-data` on it'
    if EMPTY_SET.search(str(error)):
        files = ' and '.join(dict.fromkeys(path for path in find_paths(cfg) if osp.isfile(path)))
        return (
            f'a dataset of {cfg.filename} has no image left of {files}; if the categories of the '
            'file differ from the classes of the config, run `dsnet-mm check-data` with --config '
            'to list the differences'
        )
    unknown = re.search(
        r"(?:class `(\w+)`|(\w+)\.__init__\(\)).*unexpected keyword argument '(\w+)'", str(error)
    )
    if isinstance(error, TypeError) and unknown:
        return (
            f'{unknown[1] or unknown[2]} has no setting {unknown[3]}, which {cfg.filename} or '
            '--cfg-options sets; correct the name'
        )
    if isinstance(error, IndexError) and (number := OUT_OF_CLASSES.search(str(error))):
        return (
            f'a label map of {cfg.filename} has the number {number[1]}, for which the head has no '
            'class; set num_classes of the heads and classes of the datasets, and reduce_zero_label'
            '=True if the classes begin at 1'
        )
    if loses_a_side(error):
        return (
            f'an image of a dataset of {cfg.filename} has no pixel left along its shorter side '
            'after the resize; cut it, or remove it from the annotations'
        )
    # the last match: text from another process quotes the line of the program first
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
    if path and str(path).lower().endswith(IMAGES):
        return _unreadable(path, reason or '')
    if path or number in OF_WRITING:
        place = path or f'a file in {cfg.work_dir}'
        return f'{place} cannot be read or written ({reason}); fix that and {again}'
    return None


def _explain_memory(text: str) -> str | None:
    """Explain a lack of memory of the GPU, of the machine, or of shared memory."""
    if SHARED_MEMORY.search(text):
        return (
            'the data loader processes are out of shared memory (/dev/shm); enlarge it, in Docker '
            'with --shm-size, or lower train_dataloader.num_workers with --cfg-options'
        )
    if OUT_OF_MEMORY.search(text):
        return (
            f'out of memory ({one_line(text)[:300]}); with --cfg-options lower '
            'train_dataloader.batch_size, together with --auto-scale-lr, or set '
            'model.backbone.with_cp=True, which recomputes blocks instead of storing them'
        )
    return None


def _unreadable(image: str, reason: str = '') -> str:
    return (
        f'{image} cannot be read as an image{reason and f" ({reason})"}; download it again or '
        'remove it from the annotations, and find others with `dsnet-mm check-data`'
    )


def _find_broken_image(cfg: Config) -> tuple[str, str]:
    """Return the smallest image file of ``cfg`` that cannot be read, and why."""
    folders = list(dict.fromkeys(path for path in find_paths(cfg) if osp.isdir(path)))
    files = (path for folder in folders for path in files_below(Path(folder), IMAGES))
    paths = dict.fromkeys(map(str, files))
    by_size = sorted(paths, key=osp.getsize)
    for path, image in zip(by_size, open_images(by_size)):
        if image.state is State.BROKEN:
            return path, image.reason
    return f'one of the images in {", ".join(folders)}', ''


def _fault_of_json(path: str) -> str | None:
    try:
        json.loads(Path(path).read_bytes())
    except ValueError as error:
        return f'is not complete JSON ({error})'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    return None
