"""Semantic segmentation: the configs, what they inherit, and docs/segmentation.md."""

from __future__ import annotations

import pickle
import re
import shlex
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import nn

from dsnet_mm.analysis.model_info import describe_config
from dsnet_mm.data.locate import find_paths
from dsnet_mm.data.shapes_segmentation import SEGMENTATION_METAINFO
from dsnet_mm.models import DSFPN, DSNet
from helpers.commands import run_command
from helpers.configs import check_safety
from helpers.documents import blocks, command_lines, read
from helpers.paths import ROOT

pytest.importorskip('mmseg.models', reason='needs mmsegmentation')

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

FOLDER = ROOT / 'configs' / 'segmentation'
MINI = FOLDER / 'upernet_dsnet_mini_shapes.py'
BACKBONES = ('dsnet_t', 'dsnet_s', 'dsnet_b', 'r50', 'swin_t')
ADE20K = [f'{head}_{name}_{length}_ade20k' for name in BACKBONES
          for head, length in (('upernet', '160k'), ('sem_fpn', '80k'))]  # fmt: skip
CHANNELS = dict(dsnet=[64, 128, 320, 512], r50=[256, 512, 1024, 2048], swin=[96, 192, 384, 768])
DOCUMENT = read('docs/segmentation.md')
ITERATIONS = 100


def build(name: str, **options: object) -> tuple[Config, nn.Module]:
    """Build the model of a config on PyTorch's device, without weights of others."""
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    cfg.merge_from_dict({'model.backbone.init_cfg': None, **options})
    init_default_scope('mmseg')
    return cfg, MODELS.build(cfg.model)


def without_memory(name: str) -> torch.device:
    """Return the device for a model that only shows its parts."""
    return torch.device('cpu' if 'swin' in name else 'meta')  # mmseg's Swin computes while built


def test_every_config_is_listed():
    assert {path.stem for path in FOLDER.glob('*.py')} == {*ADE20K, MINI.stem}


@pytest.mark.parametrize('name', ADE20K)
def test_recipe_and_model(name):
    with without_memory(name):
        cfg, model = build(name)
    check_safety(cfg)
    assert cfg.custom_imports.imports == ['dsnet_mm']
    head, backbone = re.fullmatch(r'(upernet|sem_fpn)_(\w+)_\d+k_ade20k', name).groups()
    optimizer, (*warmup, poly) = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    if head == 'upernet':
        lr, decay, iterations, end, power = 6e-5, 0.01, 160000, 0.0, 1.0
    else:
        lr, decay, iterations, end, power = 1e-4, 1e-4, 80000, 0.0, 0.9
    if backbone == 'r50':
        lr, decay, end, power = 0.01, 5e-4, 1e-4 if head == 'upernet' else 0.0, 0.9
    assert optimizer.type == ('SGD' if backbone == 'r50' else 'AdamW')
    assert (optimizer.lr, optimizer.weight_decay) == (lr, decay)
    assert (poly.type, poly.eta_min, poly.power, poly.end) == ('PolyLR', end, power, iterations)
    assert [step.end for step in warmup] == ([1500] if (lr, head) == (6e-5, 'upernet') else [])
    assert cfg.train_cfg.max_iters == iterations
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval  # each is evaluated
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    root = 'data/ade/ADEChallengeData2016'
    assert set(find_paths(cfg)) == {f'{root}/{kind}/{split}' for kind in ('images', 'annotations')
                                    for split in ('training', 'validation')}  # fmt: skip

    channels = CHANNELS[backbone.partition('_')[0]]
    reader = model.neck if head == 'sem_fpn' else model.decode_head
    assert list(reader.in_channels) == channels
    assert type(reader).__name__ == dict(upernet='UPerHead', sem_fpn='FPN')[head]
    heads = [model.decode_head] + ([model.auxiliary_head] if head == 'upernet' else [])
    assert [part.num_classes for part in heads] == [150] * len(heads)
    if head == 'upernet':
        assert model.auxiliary_head.in_channels == channels[2]
    if backbone.startswith('dsnet'):
        arch = dict(t='tiny', s='small', b='base')[backbone[-1]]
        assert type(model.backbone) is DSNet
        assert cfg.model.backbone.arch == arch
        weights = Config.fromfile(FOLDER / f'{name}.py').model.backbone.init_cfg
        assert weights.checkpoint == f'dsnet://{arch}_in1k'


def test_no_decay_on_norms_and_biases():
    with torch.device('meta'):
        cfg, model = build('sem_fpn_dsnet_t_80k_ade20k')
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {id(group['params'][0]): group['weight_decay'] for group in groups}
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.LayerNorm)
    norms = {f'{n}.weight' for n, module in model.named_modules() if isinstance(module, kinds)}
    assert len(norms) > 30
    for name, parameter in model.named_parameters():
        free = name in norms or name.endswith('.bias')
        assert decays[id(parameter)] == (0 if free else 1e-4), name


@pytest.mark.parametrize(
    ('name', 'neck'),
    [
        ('upernet_dsnet_t_160k_ade20k', None),
        ('sem_fpn_dsnet_t_80k_ade20k', 'FPN'),
        ('sem_fpn_dsnet_t_80k_ade20k', 'DSFPN'),
    ],
)
def test_computes_a_loss_and_predicts(name, neck):
    _, model = build(name, **({'model.neck.type': neck} if neck else {}))
    if neck == 'DSFPN':
        assert type(model.neck) is DSFPN
    height, width = 64, 96
    meta = dict(img_shape=(height, width), ori_shape=(height, width))
    label_map = PixelData(data=torch.randint(150, (1, height, width)))
    samples = [SegDataSample(gt_sem_seg=label_map, metainfo=meta) for _ in range(2)]
    images = [torch.randint(256, (3, height, width), dtype=torch.uint8) for _ in range(2)]
    model.data_preprocessor.size = (height, width)
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    loss, _ = model.parse_losses(model.train()(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    data = model.data_preprocessor(dict(inputs=images[:1], data_samples=samples[:1]))
    with torch.no_grad():
        (result,) = model.eval()(**data, mode='predict')
    assert result.pred_sem_seg.data.shape == (1, height, width)
    assert result.seg_logits.data.shape == (150, height, width)


def test_info_counts_a_model_without_its_auxiliary_head():
    info = describe_config(FOLDER / 'upernet_dsnet_t_160k_ade20k.py', (64, 64))
    detector = describe_config(ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py', (64, 64))
    assert info.parameters.backbone == detector.parameters.backbone
    assert info.executed_macs.backbone == detector.executed_macs.backbone
    assert info.executed_macs.neck == 0
    # the convolution of the fused maps: 2048 to 512 channels, 3x3, on 16x16 pixels
    assert 2 * 2048 * 512 * 9 * 256 > info.executed_macs.heads > 2048 * 512 * 9 * 256


def test_the_small_config_reads_the_shapes():
    cfg = Config.fromfile(MINI)
    check_safety(cfg)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.metainfo.to_dict() == SEGMENTATION_METAINFO
        assert dataset.reduce_zero_label is False
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 5


def test_the_small_config_starts_from_the_demo():
    backbone = Config.fromfile(MINI).model.backbone
    demo = Config.fromfile(ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py')
    ours, trained = (
        DSNet(**{key: value for key, value in settings.items() if key not in ('type', 'init_cfg')})
        for settings in (backbone, demo.model.backbone)
    )
    names = {name for name in ours.state_dict() if not name.startswith('out_norms.')}
    assert names == set(trained.state_dict()) < set(ours.state_dict())
    epochs = demo.train_cfg.max_epochs
    assert backbone.init_cfg.checkpoint == f'work_dirs/demo/epoch_{epochs}.pth'
    assert backbone.init_cfg.prefix == 'backbone.'


def type_in(command: str, *more: str, cwd: Path) -> str:
    program, *words = shlex.split(command)
    assert program == 'dsnet-mm'
    done = run_command(*words, *more, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def write_small(folder: Path) -> None:
    """Write the configs of the document's commands, made small, into ``folder``."""
    workers = dict(num_workers=0)
    # a model that learns its eight images by heart, and is evaluated on them
    learned = dict(
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')
    )
    evaluation = dict(num_workers=0, dataset=learned)
    small = dict(
        train_dataloader=workers,
        val_dataloader=evaluation,
        test_dataloader=evaluation,
        model=dict(data_preprocessor=dict(size=(48, 48)), backbone=dict(init_cfg=None)),
        train_cfg=dict(max_iters=ITERATIONS, val_interval=ITERATIONS),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10)],
        default_hooks=dict(checkpoint=dict(interval=ITERATIONS)),
    )
    ade = Config.fromfile(FOLDER / 'sem_fpn_dsnet_t_80k_ade20k.py')
    sizes = dict(RandomResize=dict(scale=(64, 32)), RandomCrop=dict(crop_size=(32, 32)))
    steps = [dict(step, **sizes.get(step.type, {})) for step in ade.train_pipeline]
    arch = Config.fromfile(MINI).model.backbone.arch.to_dict()
    small_ade = dict(
        train_dataloader=dict(
            num_workers=0, persistent_workers=False, dataset=dict(pipeline=steps)
        ),
        val_dataloader=dict(num_workers=0, persistent_workers=False),
        test_dataloader=dict(num_workers=0, persistent_workers=False),
        model=dict(
            data_preprocessor=dict(size=(32, 32)),
            backbone=dict(arch=dict(_delete_=True, **arch), init_cfg=None, norm_eval=False),
            neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
            decode_head=dict(in_channels=[32] * 4, channels=32),
        ),
        train_cfg=dict(max_iters=2, val_interval=2),
        default_hooks=dict(checkpoint=dict(interval=2)),
    )
    for path, settings in ((MINI, small), (Path(ade.filename), small_ade)):
        lines = [f'_base_ = {str(path)!r}', *(f'{k} = {v!r}' for k, v in settings.items())]
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text('\n'.join(lines))


@pytest.mark.slow
def test_commands(tmp_path):
    """A small UPerNet learns. Semantic FPN trains and is evaluated as on ADE20K."""
    _, demo, shapes, train, test, ade_train, ade_test, _ = command_lines(DOCUMENT)
    assert demo == 'dsnet-mm demo'  # run by the tests of the README
    write_small(tmp_path)
    type_in(shapes, '--train', '8', '--val', '4', '--size', '48', cwd=tmp_path)
    log = type_in(train, cwd=tmp_path)
    test = test.replace('iter_1000', f'iter_{ITERATIONS}')
    assert test.endswith('--show-dir work_dirs/pictures')
    untrained = 100 / 5  # at most: one class everywhere overlaps with this class only
    for text in (log, type_in(test, cwd=tmp_path)):
        assert float(re.findall(r'mIoU: ([\d.]+)', text)[-1]) > 2 * untrained
    with (tmp_path / 'work_dirs' / 'predictions.pkl').open('rb') as file:
        assert len(pickle.load(file)) == 8
    assert len(list((tmp_path / 'work_dirs' / 'pictures').iterdir())) == 8

    root = tmp_path / 'data' / 'ade' / 'ADEChallengeData2016'
    root.parent.mkdir()
    root.symlink_to(tmp_path / 'data' / 'shapes_seg')
    log = type_in(ade_train, cwd=tmp_path)
    assert 'is for batches of 16 images, but this run has batches of 2' in log
    log = type_in(ade_test.replace('iter_80000', 'iter_2'), cwd=tmp_path)
    assert 'mIoU' in log


def test_info_command():
    command = command_lines(DOCUMENT)[-1]
    printed = type_in(command.replace('512 2048', '64 64'), cwd=ROOT)
    assert '| upernet_dsnet_s_160k_ade20k |' in printed


def table() -> dict[str, list[float]]:
    """Return the parameters and MACs of each model in the document, both without units."""
    rows = re.findall(r'^\| `(\w+_ade20k)` \| ([\d.]+) \| ([\d.]+) \|', DOCUMENT, re.MULTILINE)
    return {name: [float(parameters), float(macs)] for name, parameters, macs in rows}


def test_the_table_has_every_config_and_its_parameters():
    assert set(table()) == set(ADE20K)
    for name, (parameters, _) in table().items():
        with without_memory(name):
            _, model = build(name)
        assert f'{sum(p.numel() for p in model.parameters()) / 1e6:.2f}' == f'{parameters:.2f}'


@pytest.mark.parametrize('head', ['upernet', 'sem_fpn'])
def test_the_macs_of_the_table(head):
    (name,) = [name for name in ADE20K if name.startswith(f'{head}_dsnet_t')]
    info = describe_config(FOLDER / f'{name}.py', (512, 512))
    assert f'{info.executed_macs.whole / 1e9:.1f}' == f'{table()[name][1]:.1f}'


def test_the_example_for_an_own_config():
    (text,) = blocks(DOCUMENT, 'python')
    base = Config.fromfile(FOLDER / 'upernet_r50_160k_ade20k.py')
    base.merge_from_dict(dict(model=Config.fromstring(text, '.py').model.to_dict()))
    assert base.model.backbone.init_cfg.checkpoint == 'dsnet://small_in1k'
    base.model.backbone.init_cfg = None
    init_default_scope('mmseg')
    model = MODELS.build(base.model)
    assert type(model.backbone) is DSNet
    assert list(model.backbone.out_channels) == model.decode_head.in_channels
    assert model.backbone.out_channels[2] == model.auxiliary_head.in_channels
