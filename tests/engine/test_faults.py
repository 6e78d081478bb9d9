"""What befalls long trainings: kills, full disks, broken data, losses that are no number."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import mmcv
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.models import RetinaNet
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner, save_checkpoint

from dsnet_mm.engine.checkpoint import latest_checkpoint, read_checkpoint
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.distributed import rank_of
from dsnet_mm.engine.evaluate import evaluate
from dsnet_mm.engine.explain_errors import explained
from dsnet_mm.engine.hooks import CheckClassesHook, StopAtNaNHook
from dsnet_mm.engine.train import train
from dsnet_mm.engine.work_dir_lock import only_training_in
from dsnet_mm.errors import UserError
from dsnet_mm.files import make_folder
from helpers.detectors import TINY_DETECTOR
from helpers.paths import ROOT

EPOCHS = 40
KILLS = 8
# When a training is killed: as soon as its log has these words so many times.
MOMENTS = (('Saving checkpoint', 2), ('resumed epoch', 1), ('Epoch(train)', 3), ('', 1))
# Starts trainings as children, which need not load PyTorch, mmdet and the config again.
SERVER = """
import os, sys
import helpers.fast_configs
import torch
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.train import train
from mmdet.utils import register_all_modules
torch.set_num_threads(1)
config, work_dir, data_root = sys.argv[1:]
cfg = load_config(config, work_dir, data_root=data_root)
for number, _ in enumerate(sys.stdin):
    child = os.fork()
    if not child:
        log = os.open(f'{work_dir}/log{number}.txt', os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train(cfg, resume='auto')
        os._exit(0)
    print('answer', child, flush=True)
    print('answer', os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A detector whose epochs take a fraction of a second."""
    path = tmp_path_factory.mktemp('config') / 'config.py'
    path.write_text(f"""{TINY_DETECTOR}train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(**loader, batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs={EPOCHS}, val_interval=1000)
param_scheduler = []
""")
    return path


class Trainings:
    """Trainings in one work dir, one after the other."""

    def __init__(self, config: Path, work_dir: Path, data_root: Path) -> None:
        self.work_dir = work_dir
        self.number = 0
        self.server = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', SERVER, config, work_dir, data_root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT / 'tests',
        )

    def run(self, words: str | None = None, times: int = 1, delay: float = 0) -> int:
        """Train to the end, or until ``delay`` seconds after the log has the words so many times.

        Returns:
            The status of the process.
        """
        log = self.work_dir / f'log{self.number}.txt'
        child, latest = self.start(), time.monotonic() + 120
        while words is not None:
            said = log.read_text() if log.exists() else ''
            assert 'Traceback' not in said, said
            assert time.monotonic() < latest, said
            ends = not Path('/proc', str(child)).exists()
            if ends or said.count(words) >= times:
                time.sleep(delay)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.01)
        return self.answer()

    def start(self) -> int:
        """Start a training; return the number of its process."""
        self.server.stdin.write('go\n')
        self.server.stdin.flush()
        self.number += 1
        return self.answer()

    def answer(self) -> int:
        """Read the next number that the server tells; packages may print lines of their own."""
        for line in self.server.stdout:
            if line.startswith('answer '):
                return int(line.split()[1])
        raise AssertionError('the server has ended')


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_comes_to_its_end(
    config, shapes_root, tmp_path, request
):
    trainings = Trainings(config, tmp_path, shapes_root)
    request.addfinalizer(trainings.server.kill)
    chance = random.Random(0)
    killed = last = 0
    for number in range(KILLS):
        status = trainings.run(*MOMENTS[number % len(MOMENTS)], delay=chance.uniform(0, 0.2))
        log = (tmp_path / f'log{number}.txt').read_text()
        assert status in (0, signal.SIGKILL), log
        killed += status == signal.SIGKILL
        resumed = re.search(r'resumed epoch: (\d+)', log)
        if resumed:
            # at most the interval is lost in which the training was killed before
            assert last - 1 <= int(resumed[1]) <= last, log
        elif 'Epoch(train)' in log:  # nor does it begin anew
            assert last <= 1, log
        last = max(last, last_stored(tmp_path / f'log{number}.txt'))
        checkpoint = latest_checkpoint(tmp_path)
        if last > 1:
            assert read_checkpoint(str(checkpoint))['meta']['epoch'] in (last - 1, last)
    assert killed > KILLS / 2
    assert last > 3
    assert trainings.run() == 0
    assert read_checkpoint(str(latest_checkpoint(tmp_path)))['meta']['epoch'] == EPOCHS


def last_stored(log: Path) -> int:
    """Return the last epoch whose checkpoint was begun, 0 if there was none."""
    return max(
        map(int, re.findall(r'Saving checkpoint at (\d+) epochs', log.read_text())), default=0
    )


def test_a_checkpoint_cut_short_is_passed_over(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for epoch in (2, 9, 10):
        torch.save(dict(state_dict={}, meta=dict(epoch=epoch)), tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'best_coco_bbox_mAP_epoch_11.pth').write_bytes(b'of no concern')
    (tmp_path / 'last_checkpoint').write_text('')
    assert latest_checkpoint(tmp_path).name == 'epoch_10.pth'
    whole = (tmp_path / 'epoch_10.pth').read_bytes()
    (tmp_path / 'epoch_10.pth').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'epoch_11.pth').write_bytes(b'')
    assert latest_checkpoint(tmp_path).name == 'epoch_9.pth'


def test_settings_that_do_not_exist_are_named(config, shapes_root, tmp_path):
    options = {'train_cfg.max_epoch': 1}
    cfg = load_config(str(config), str(tmp_path), options, str(shapes_root))
    with pytest.raises(UserError, match='EpochBasedTrainLoop has no setting max_epoch, which'):
        train(cfg)


def test_two_trainings_in_one_folder_are_noticed(tmp_path):
    (tmp_path / 'other').mkdir()
    with only_training_in(tmp_path):
        with pytest.raises(UserError, match=r'is in use by a training of process \d+; wait'):
            with only_training_in(tmp_path):
                pass
        with only_training_in(tmp_path / 'other'):
            pass
    with only_training_in(tmp_path):
        pass


def test_a_process_that_loads_data_does_not_hold_the_folder(tmp_path):
    """It may outlive a training that is killed."""
    there, here = os.pipe()
    with only_training_in(tmp_path):
        child = os.fork()
        if not child:
            os.write(here, b'1')
            time.sleep(60)
            os._exit(0)
        os.read(there, 1)
    try:
        with only_training_in(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ('launcher', 'variable'),
    [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')],
)
def test_only_the_first_process_of_a_launcher_holds_the_folder(
    tmp_path, monkeypatch, launcher, variable
):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    assert rank_of(launcher) == 0
    with only_training_in(tmp_path, rank_of(launcher)):
        monkeypatch.setenv(variable, '1')
        assert rank_of('none') == 0
        with only_training_in(tmp_path, rank_of(launcher)):
            pass


def test_nothing_to_resume_begins_with_the_weights_of_the_config(config, shapes_root, tmp_path):
    """Nor is a broken file loaded that mmengine's note names."""
    work_dir = tmp_path / 'work_dir'
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(b'PK\x03\x04 cut short')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    options = {'train_cfg.max_epochs': 1, 'load_from': str(tmp_path / 'none.pth')}
    cfg = load_config(str(config), str(work_dir), options, str(shapes_root))
    with pytest.raises(
        UserError, match='load_from: .*none.pth is missing; correct the path, .*or leave'
    ):
        train(cfg, resume='auto')
    cfg = load_config(str(config), str(work_dir), {'train_cfg.max_epochs': 1}, str(shapes_root))
    train(cfg, resume='auto')
    assert read_checkpoint(str(work_dir / 'epoch_1.pth'))['meta']['epoch'] == 1


def run(config: Path, work_dir: Path, data_root: Path, **options: object) -> dict[str, float]:
    options = {'train_cfg.max_epochs': 3, **{k.replace('__', '.'): v for k, v in options.items()}}
    return train(load_config(str(config), str(work_dir), options, str(data_root)))


def test_a_loss_that_is_no_number_stops_the_training(config, shapes_root, tmp_path):
    with pytest.raises(UserError, match='the loss is not finite at iteration') as error:
        run(config, tmp_path, shapes_root, optim_wrapper__optimizer__lr=1e30,
            optim_wrapper__clip_grad=None)  # fmt: skip
    assert str(tmp_path) in str(error.value)
    assert '--resume' in str(error.value)
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is None or all(
        weight.isfinite().all()
        for weight in read_checkpoint(str(checkpoint))['state_dict'].values()
    )


def test_an_evaluation_that_finds_nothing_repeats_no_metric(
    config, shapes_root, tmp_path, monkeypatch
):
    found = iter([dict(bbox_mAP=0.5), {}])
    monkeypatch.setattr(CocoMetric, 'compute_metrics', lambda self, results: next(found))
    metrics = run(config, tmp_path, shapes_root, train_cfg__max_epochs=2, train_cfg__val_interval=1)
    assert 'coco/bbox_mAP' not in metrics
    (scalars,) = tmp_path.rglob('vis_data/scalars.json')
    assert scalars.read_text().count('bbox_mAP') == 1


@pytest.mark.parametrize(
    ('split', 'classes'),
    [
        ('train', ('circle', 'square', 'star', 'triangel')),
        ('val', ('circle', 'square', 'star', 'triangel')),
        ('test', ('circle', 'square', 'star', 'triangel')),
        ('train', ('cat',)),
    ],
)
def test_a_class_that_a_file_lacks_stops_before_the_first_image(
    config, shapes_root, tmp_path, monkeypatch, split, classes
):
    monkeypatch.setattr(RetinaNet, 'forward', None)  # nothing is trained or tested
    options = {f'{split}_dataloader.dataset.metainfo': dict(classes=classes)}
    cfg = load_config(str(config), str(tmp_path), options, str(shapes_root))
    file = rf'{shapes_root}\S+_{"train" if split == "train" else "val"}2017.json'
    words = (
        rf'{file} has only 3 of the 4 classes of its dataset in \S+config.py, so the later'
        if len(classes) > 1
        else rf'a dataset of \S+config.py has no image left of {file} and \S+; if the categories'
    )
    if split == 'test':
        weights = dict(state_dict=MODELS.build(cfg.model).state_dict())
        torch.save(weights, tmp_path / 'model.pth')
        with pytest.raises(UserError, match=words):
            evaluate(cfg, str(tmp_path / 'model.pth'))
    else:
        with pytest.raises(UserError, match=words):
            train(cfg)


def test_classes_are_looked_at_inside_wrappers_and_where_there_are_no_categories():
    class Part:
        ann_file, metainfo = 'my.json', dict(classes=('a', 'b'))

    whole, lacking, foreign = Part(), Part(), Part()
    whole.cat_ids, lacking.cat_ids = [1, 2], [1]
    runner = SimpleNamespace(cfg=SimpleNamespace(filename='my.py'))
    repeated = SimpleNamespace(dataset=lacking)
    CheckClassesHook.check(runner, SimpleNamespace(datasets=[whole, foreign]))
    with pytest.raises(UserError, match='my.json has only 1 of the 2 classes .* in my.py'):
        CheckClassesHook.check(runner, SimpleNamespace(datasets=[whole, repeated]))


def test_a_training_beside_older_checkpoints_warns(config, shapes_root, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text, *args: said.append(text))
    for begun, warnings in (({}, 0), ({}, 1), (dict(resume='auto'), 0)):
        said.clear()
        options = {'train_cfg.max_epochs': 1}
        train(load_config(str(config), str(tmp_path), options, str(shapes_root)), **begun)
        warned = [text for text in said if 'holds checkpoints of an earlier training' in text]
        assert len(warned) == warnings
        assert all(f'{tmp_path} holds' in text and 'epoch_1.pth' in text for text in warned)


def test_weights_that_are_no_numbers_are_not_stored(tmp_path):
    runner = type('Runner', (), dict(iter=6, work_dir=str(tmp_path)))
    hook = StopAtNaNHook()
    hook.before_save_checkpoint(runner, dict(state_dict=dict(a=torch.ones(2), n=torch.tensor(3))))
    with pytest.raises(UserError, match='the weight b is not finite at iteration 7'):
        hook.before_save_checkpoint(runner, dict(state_dict=dict(b=torch.tensor([1, torch.nan]))))


@pytest.fixture
def broken_set(shapes_root, tmp_path) -> Path:
    """A copy of the shapes, to be broken."""
    root = tmp_path / 'broken'
    for folder in ('train2017', 'val2017', 'annotations'):
        (root / folder).mkdir(parents=True)
        for path in (shapes_root / folder).iterdir():
            (root / folder / path.name).write_bytes(path.read_bytes())
    return root


@pytest.mark.slow
def test_an_image_that_cannot_be_read_leaves_the_checkpoint_before(config, broken_set, tmp_path):
    work_dir = tmp_path / 'work'
    run(config, work_dir, broken_set, train_cfg__max_epochs=1)
    image = sorted((broken_set / 'train2017').iterdir())[3]
    image.write_bytes(b'')
    options = {'train_cfg.max_epochs': 2, 'train_dataloader.num_workers': 1}
    cfg = load_config(str(config), str(work_dir), options, str(broken_set))
    with pytest.raises(UserError, match=rf'{image} cannot be read as an image \(empty\)'):
        train(cfg, resume='auto')
    assert latest_checkpoint(work_dir).name == 'epoch_1.pth'


BROKEN = {
    'cut off': lambda image: image.write_bytes(image.read_bytes()[:-200]),
    'empty': lambda image: image.write_bytes(b''),
    'missing': lambda image: image.unlink(),
    'text': lambda image: image.write_text('text'),
}


@pytest.mark.parametrize(
    ('fault', 'workers'), [('cut off', 1), ('empty', 0), ('empty', 1), ('missing', 1), ('text', 0)]
)
def test_an_image_that_cannot_be_read_is_named(config, broken_set, tmp_path, fault, workers):
    """In this process or in one of its own, in training or in testing."""
    split = 'val' if workers else 'train'
    image = sorted((broken_set / f'{split}2017').iterdir())[3]
    BROKEN[fault](image)
    cfg = load_config(str(config), str(tmp_path), data_root=str(broken_set))
    settings = cfg[f'{split}_dataloader']
    settings.num_workers = workers
    words = rf'^{image} cannot be read as an image.*; download it again or remove it'
    with pytest.raises(UserError, match=words) as error, explained(cfg, 'go on'):
        for _ in Runner.build_dataloader(settings):
            pass
    assert '\n' not in str(error.value)


def test_an_image_is_not_blamed_for_what_else_opencv_says(tmp_path):
    with pytest.raises(cv2.error), explained(Config(dict(work_dir=str(tmp_path))), 'go on'):
        cv2.add(torch.ones(4, 4).numpy(), torch.ones(5, 5).numpy())


def test_an_image_that_is_too_thin_is_explained(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    with pytest.raises(UserError, match='no pixel left along its shorter'), explained(cfg, 'go on'):
        mmcv.imrescale(torch.ones(2, 900).numpy(), (160, 160))


@pytest.mark.parametrize(
    ('content', 'words'),
    [('{"images": [', 'is not valid JSON'), ('{"images": [{}]}', "has no 'annotations'")],
)
def test_annotations_that_are_broken_are_named(config, broken_set, tmp_path, content, words):
    path = broken_set / 'annotations' / 'instances_train2017.json'
    path.write_text(content)
    with pytest.raises(UserError, match=f'{path.name} {words}'):
        run(config, tmp_path / 'work', broken_set)


def test_a_full_disk_leaves_the_checkpoint_before(config, shapes_root, tmp_path):
    """The system itself says so of what is written to /dev/full."""
    (tmp_path / 'epoch_2.pth').symlink_to('/dev/full')
    with pytest.raises(
        UserError, match=f'the disk of {tmp_path} is full; free some space and continue'
    ):
        run(config, tmp_path, shapes_root)
    assert latest_checkpoint(tmp_path).name == 'epoch_1.pth'


def test_a_part_of_a_checkpoint_is_passed_over(tmp_path):
    """The system ends the file in its middle, as at the limit of a quota."""
    checkpoint = dict(state_dict=dict(a=torch.ones(10**6)), meta={})
    save_checkpoint(checkpoint, str(tmp_path / 'epoch_1.pth'))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    cfg = Config(dict(work_dir=str(tmp_path)))
    words = f'in {tmp_path} cannot be read or written .File too large'
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))
    try:
        with pytest.raises(UserError, match=words), explained(cfg, 'go on'):
            save_checkpoint(checkpoint, str(tmp_path / 'epoch_2.pth'))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / 'epoch_2.pth').stat().st_size == 10**6
    assert latest_checkpoint(tmp_path).name == 'epoch_1.pth'


@pytest.mark.parametrize('above', [False, True])
def test_a_work_dir_that_is_a_file(config, shapes_root, tmp_path, above):
    place = tmp_path / 'file'
    place.write_text('mine')
    work_dir = place / 'below' if above else place
    words = f'the folder {work_dir} is not writable .a file has its name .*; .* as --work-dir'
    with pytest.raises(UserError, match=words):
        run(config, work_dir, shapes_root)
    assert place.read_text() == 'mine'


def test_a_work_dir_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):  # the rights of a file do not bind the superuser
        raise PermissionError(13, 'Permission denied')

    with pytest.raises(UserError, match=r'^the folder /proc/sys is not writable \('):
        make_folder('/proc/sys', '--work-dir')
    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    with pytest.raises(UserError, match=rf'{tmp_path} is not writable \(Permission denied\); fix'):
        make_folder(tmp_path, '--work-dir')
    assert not list(tmp_path.iterdir())


def test_a_fault_of_the_system_is_told_with_its_file(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    with pytest.raises(UserError, match=rf'^{tmp_path} cannot be .* \(Is a directory\); fix'):
        with explained(cfg, 'go on'):
            tmp_path.write_text('')
    for kind in (PermissionError(1, 'Operation not permitted'), FileNotFoundError(2, 'No such')):
        with pytest.raises(type(kind)), explained(cfg, 'go on'):
            raise kind  # of a process or a socket; no file is to blame


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        ('CUDA out of memory. Tried to allocate 2.00 GiB.', 'set model.backbone.with_cp=True'),
        ("It is possible that dataloader's workers are out of shared memory.", '--shm-size'),
        ('unable to write to file </torch_25_1804>: No space left (28)', '--shm-size'),
        ('unable to open shared memory object </torch_1> in read-write mode', '--shm-size'),
    ],
)
def test_a_lack_of_memory_gets_a_remedy(error, words):
    with pytest.raises(UserError, match=words), explained(Config(), 'go on'):
        raise RuntimeError(error)


def test_a_real_lack_of_memory_gets_a_remedy():
    with pytest.raises(UserError, match='lower train_dataloader.batch_size'):
        with explained(Config(), 'go on'):
            torch.empty(2**60, dtype=torch.uint8)


def test_an_unknown_error_stays_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with explained(Config(dict(work_dir=str(tmp_path))), 'go on'):
            _ = 1 / 0
    path = tmp_path / 'whole.json'
    path.write_text(json.dumps(dict(images=[], annotations=[], categories=[])))
    cfg = Config(dict(val_evaluator=dict(ann_file=str(path)), work_dir=str(tmp_path)))
    with pytest.raises(KeyError, match='unknown'), explained(cfg, 'go on'):
        raise KeyError('unknown')
