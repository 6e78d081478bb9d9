"""Train, resume, test and infer as a user types it, and the errors for bad input."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS as DET_MODELS
from mmengine.config import Config
from torch.nn.modules.batchnorm import _BatchNorm

from dsnet_mm.engine.building import build_runner
from dsnet_mm.engine.checkpoint import read_weights
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.evaluate import evaluate
from dsnet_mm.engine.initial_weights import check_initial_weights
from dsnet_mm.errors import UserError
from helpers.commands import dsnet_mm_ends, run_command
from helpers.configs import as_options
from helpers.detectors import FEW_REGIONS
from helpers.paths import ROOT

CONFIG = 'configs/retinanet_dsnet_t_fpn_1x_coco.py'
DEMO = 'configs/demo/retinanet_dsnet_mini_shapes.py'


@pytest.fixture(scope='module')
def trained(shapes_root, tmp_path_factory) -> Path:
    """The work dir of a one-epoch training with `dsnet-mm train`."""
    work_dir = tmp_path_factory.mktemp('trained')
    done = run_command('train', DEMO, '--data-root', shapes_root, '--work-dir', work_dir,
                '--cfg-options', 'train_cfg.max_epochs=1',
                'train_dataloader.batch_size=4')  # fmt: skip
    assert done.returncode == 0, done.stderr
    return work_dir


@pytest.mark.slow
def test_training_leaves_a_checkpoint_that_loads_safely(trained):
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=True)
    assert {'state_dict', 'optimizer', 'param_schedulers', 'message_hub'} <= set(checkpoint)
    assert checkpoint['meta']['dataset_meta']['classes'] == (
        'circle', 'square', 'star', 'triangle')  # fmt: skip


@pytest.mark.slow
def test_a_run_keeps_its_log_config_seed_and_environment(trained):
    (log,) = trained.glob('*/*.log')
    text = log.read_text()
    assert 'Epoch(train) [1][2/2]' in text
    for fact in ('PyTorch: ', 'MMEngine: ', 'Python: ', 'seed: '):
        assert fact in text
    kept = Config.fromfile(trained / Path(DEMO).name)
    assert kept.train_cfg.max_epochs == 1
    assert kept.optim_wrapper.optimizer.type == 'AdamW'
    assert isinstance(torch.load(trained / 'epoch_1.pth', weights_only=True)['meta']['seed'], int)


@pytest.mark.slow
def test_test_evaluates_stores_and_draws(trained, shapes_root, tmp_path):
    before = set(multiprocessing.active_children())
    done = run_command('test', DEMO, trained / 'epoch_1.pth', '--data-root', shapes_root,
                '--work-dir', tmp_path, '--out', tmp_path / 'predictions.pkl',
                '--show-dir', tmp_path / 'pictures')  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'coco/bbox_mAP' in done.stdout + done.stderr or 'is empty' in done.stdout + done.stderr
    assert (tmp_path / 'predictions.pkl').stat().st_size > 0
    assert len(list((tmp_path / 'pictures').iterdir())) == 4
    # those that load data would otherwise wait for the garbage collector, which takes seconds
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.slow
@pytest.mark.parametrize('how', ['--resume', '--resume=epoch_1.pth'])
def test_resume_goes_on(trained, shapes_root, tmp_path, how):
    work_dir = tmp_path / 'resumed'
    shutil.copytree(trained, work_dir)
    # mmengine notes the latest checkpoint by its whole path
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    how = how.replace('epoch_1.pth', str(work_dir / 'epoch_1.pth'))
    done = run_command('train', DEMO, '--data-root', shapes_root, '--work-dir', work_dir,
                '--cfg-options', 'train_cfg.max_epochs=2',
                'train_dataloader.batch_size=4', how)  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert 'resumed epoch: 1, iter: 2' in log
    assert 'Epoch(train) [2][2/2]' in log
    assert 'is not HistoryBuffer' not in log
    assert (work_dir / 'epoch_2.pth').exists()


def test_fused_norms_change_nothing_but_rounding(shapes_root, tmp_path, monkeypatch):
    """A ResNet has BatchNorm behind its convolutions."""
    options = {'test_dataloader.num_workers': 0, 'test_dataloader.persistent_workers': False}
    cfg = load_config(str(ROOT / DEMO), str(tmp_path), options, str(shapes_root))
    cfg.model.backbone = dict(type='ResNet', depth=18)
    cfg.model.neck.in_channels = [64, 128, 256, 512]
    model = DET_MODELS.build(cfg.model)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    checkpoint = tmp_path / 'checkpoint.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    seen, models = {}, []
    monkeypatch.setattr(
        'dsnet_mm.engine.evaluate.check_fit', lambda model, *_: models.append(model)
    )
    for fuse in (False, True):
        cfg.experiment_name = f'fuse_{fuse}'
        evaluate(cfg.copy(), str(checkpoint), fuse=fuse)
        left = [m for m in models[-1].modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert len(left) == (0 if fuse else len(norms))
        seen[fuse] = models[-1].eval().extract_feat(torch.ones(1, 3, 64, 64))
    for fused, plain in zip(seen[True], seen[False], strict=True):
        assert not torch.equal(fused, plain)
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_fused_norms_do_not_go_with_averaged_weights():
    cfg = load_config(str(ROOT / 'configs' / 'pretrain' / 'dsnet_t_in1k.py'))
    with pytest.raises(UserError, match='--fuse does not work with the EMAHook'):
        evaluate(cfg, 'x.pth', fuse=True)


def test_sync_norms_work_in_one_process_on_a_cpu(shapes_root, tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    cfg = load_config(str(ROOT / DEMO), str(tmp_path), data_root=str(shapes_root))
    cfg.model.neck.update(type='DSFPN', block_norm_cfg=dict(type='SyncBN'))
    runner = build_runner(cfg)
    norms = [module for module in runner.model.neck.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) > 5
    assert not any(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
    runner.model.train()
    for out in runner.model.neck(runner.model.backbone(torch.rand(1, 3, 64, 64))):
        assert out.isfinite().all()


@pytest.mark.slow
def test_inferencer_loads_the_checkpoint(trained, shapes_root):
    inferencer = DetInferencer(
        str(ROOT / DEMO), str(trained / 'epoch_1.pth'), device='cpu', show_progress=False
    )
    picture = next((shapes_root / 'val2017').iterdir())
    (prediction,) = inferencer(str(picture))['predictions']
    assert sorted(prediction) == ['bboxes', 'labels', 'scores']


@pytest.mark.slow
def test_learning_rate_follows_the_batch_size(shapes_root, tmp_path):
    common = ['train', DEMO, '--data-root', shapes_root, '--work-dir', tmp_path]
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2',
               'model.backbone.with_cp=True']  # fmt: skip
    done = run_command(*common, *options)
    assert done.returncode == 0, done.stderr
    assert 'is for batches of 8 images, but this run has batches of 2' in done.stdout + done.stderr
    done = run_command(*common, '--auto-scale-lr', *options)
    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert 'Scaling the original LR by 0.25' in log
    assert 'is for batches' not in log


@pytest.mark.slow
def test_mask_rcnn_learns_and_is_evaluated(shapes_root, tmp_path):
    options = ['model.backbone.init_cfg=None', 'model.backbone.norm_eval=False',
               'model.backbone.max_grid_cells=2', 'model.neck.max_grid_cells=2',
               'model.roi_head.bbox_head.num_classes=4', 'model.roi_head.mask_head.num_classes=4',
               'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
               'train_cfg.max_epochs=1', 'test_evaluator.metric=segm',
               *as_options(FEW_REGIONS),
               'train_dataloader.dataset.pipeline.2.scale=(96,96)',
               'test_dataloader.dataset.pipeline.1.scale=(96,96)',
               'val_dataloader.dataset.pipeline.1.scale=(96,96)']  # fmt: skip
    options += [
        f'{split}_dataloader.dataset.metainfo.classes=circle,square,star,triangle'
        for split in ('train', 'val', 'test')
    ]
    config = 'configs/mask_rcnn_dsnet_t_dsfpn_1x_coco.py'
    common = ['--data-root', shapes_root, '--work-dir', tmp_path, '--cfg-options', *options]
    done = run_command('train', config, *common)
    assert done.returncode == 0, done.stderr
    done = run_command('test', config, tmp_path / 'epoch_1.pth', *common)
    assert done.returncode == 0, done.stderr
    assert 'coco/segm_mAP' in done.stdout + done.stderr


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run a subcommand, expect it to fail, and return its one sentence."""

    def run(name: str, *args: object) -> str:
        monkeypatch.chdir(ROOT)
        message = str(dsnet_mm_ends(name, *args))
        assert message.startswith('error: '), message
        assert '\n' not in message
        return message

    return run


NO_WEIGHTS = ('--cfg-options', 'model.backbone.init_cfg=None')


def test_missing_data(refused, tmp_path):
    for name in ('retinanet_dsnet_s_fpn', 'mask_rcnn_dsnet_s_fpn'):
        message = refused('train', f'configs/{name}_1x_coco.py', '--data-root', tmp_path)
        assert f'{tmp_path}/annotations/instances_train2017.json is missing' in message
        assert '--data-root' in message


def test_missing_images(refused, tmp_path, shapes_root):
    (tmp_path / 'annotations').symlink_to(shapes_root / 'annotations')
    message = refused('train', CONFIG, '--data-root', tmp_path, *NO_WEIGHTS)
    assert f'{tmp_path}/train2017/ is missing' in message


def test_missing_pretrained_weights(refused, shapes_root):
    message = refused('train', CONFIG, '--data-root', shapes_root, '--cfg-options',
                      'model.backbone.init_cfg.checkpoint=nowhere/dsnet.pth')  # fmt: skip
    assert 'nowhere/dsnet.pth' in message
    assert "correct the path, or use published weights, such as 'dsnet://tiny_in1k'" in message


@pytest.mark.parametrize(
    ('file', 'words'),
    [
        ('dsnet_s_in1k.pth', "set the checkpoint to 'dsnet://small_in1k'"),
        ('dsnet_s_noalign_in1k.pth', '`dsnet-mm train configs/pretrain/dsnet_s_noalign_in1k.py`'),
        ('other.pth', "published weights, such as 'dsnet://tiny_in1k'"),
    ],
)
def test_how_missing_weights_come_about(file, words):
    cfg = load_config(str(ROOT / CONFIG))
    cfg.model.backbone.init_cfg.checkpoint = f'nowhere/{file}'
    with pytest.raises(UserError) as error:
        check_initial_weights(cfg)
    assert words in str(error.value)
    config = re.search(r'configs/\S+\.py', str(error.value))
    assert config is None or (ROOT / config[0]).exists()


def test_the_documented_path_of_a_config_works_without_a_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_config(CONFIG)
    assert found.filename == str(ROOT / CONFIG)
    assert found.work_dir == 'work_dirs/retinanet_dsnet_t_fpn_1x_coco'
    (tmp_path / 'configs').mkdir()
    (tmp_path / CONFIG).write_text('mine = 1')
    assert load_config(CONFIG).mine == 1
    with pytest.raises(UserError, match='configs/none.py is not a file'):
        load_config('configs/none.py')


def test_config_that_is_none(refused, tmp_path):
    assert 'is not a file' in refused('train', 'configs/none.py')
    broken = tmp_path / 'broken.py'
    broken.write_text('model = dict(')
    assert 'broken.py cannot be read' in refused('train', broken)
    broken.write_text("_base_ = './nowhere.py'")
    assert 'nowhere.py' in refused('train', broken)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.backbone.arch=huge', "arch 'huge' is unknown"),
        ('model.backbone.out_indices=[0,4]', 'out_indices=(0, 4)'),
        ('model.neck.in_channels=[256,512,1024,2048]', 'set in_channels of the neck'),
        ('model.neck.type=DSFPN model.neck.in_strides=[8,16,32,64]', 'set in_strides of the neck'),
        ('model.backbone.type=NoNet', 'NoNet'),
    ],
)
def test_config_that_does_not_fit(refused, shapes_root, tmp_path, option, words):
    message = refused('train', CONFIG, '--data-root', shapes_root, '--work-dir', tmp_path,
                      '--cfg-options', 'model.backbone.init_cfg=None', *option.split())  # fmt: skip
    assert words in message


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'is not a file'),
        (b'', 'is damaged'),
        (b'no checkpoint', 'is damaged'),
        ([1, 2], 'has no state_dict'),
        ({'state_dict': {'weight': torch.ones(1)}}, 'does not fit the model of the config'),
        ({'state_dict': {}, 'meta': Path('x')}, 'does not load safely'),
    ],
    ids=['missing', 'empty', 'text', 'list', 'other', 'unsafe'],
)
def test_checkpoint_that_is_none(refused, shapes_root, tmp_path, content, words):
    path = tmp_path / 'checkpoint.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    message = refused('test', DEMO, path, '--data-root', shapes_root, '--work-dir', tmp_path)
    assert 'checkpoint.pth' in message
    assert words in message


def test_a_checkpoint_from_elsewhere_is_made_plain_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=Path('x')), 'foreign.pth')
    with pytest.raises(UserError, match='if you trust its origin') as error:
        read_weights('foreign.pth')
    (program,) = re.findall(r'`python -c "(.*)"`$', str(error.value))
    exec(program, {})
    assert torch.equal(read_weights('weights.pth')['a'], torch.ones(2))
    torch.save({'module.a': torch.ones(2)}, 'parallel.pth')
    assert list(read_weights('parallel.pth')) == ['a']


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU does mixed precision')
def test_mixed_precision_without_a_gpu(refused, shapes_root):
    message = refused('train', DEMO, '--data-root', shapes_root, '--amp')
    assert '--amp needs a GPU' in message


def test_out_file_of_another_kind(refused, shapes_root, tmp_path):
    assert 'must end in .pkl' in refused(
        'test', DEMO, 'x.pth', '--data-root', shapes_root, '--out', tmp_path / 'x.json'
    )
