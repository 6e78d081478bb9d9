"""ImageNet training: the recipe, the way from a classifier to a detector, and docs/pretrain.md."""

from __future__ import annotations

import pickle
import re
import shlex
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmdet.registry import HOOKS as DET_HOOKS
from mmdet.registry import MODELS as DET_MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from dsnet_mm.data.locate import check_data, find_paths, set_data_root
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.evaluate import draw_predictions
from dsnet_mm.engine.hooks import SafeCheckpointHook, StopAtNaNHook
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSNet, GLNet
from dsnet_mm.weights.published_models import dsnet_classifier
from helpers.commands import run_command
from helpers.configs import check_safety
from helpers.datasets import CLASSES
from helpers.documents import command_lines, read
from helpers.paths import ROOT

FOLDER = ROOT / 'configs' / 'pretrain'
TINY, SHAPES = FOLDER / 'dsnet_t_in1k.py', FOLDER / 'dsnet_mini_shapes.py'
RETINANET = ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py'
NAMES = [f'dsnet_{arch}{align}_in1k' for arch in 'tsb' for align in ('', '_noalign')]
ARCHS = dict(t='tiny', s='small', b='base')

DOCUMENT = read('docs/pretrain.md')
COMMANDS = command_lines(DOCUMENT)

# A model that trains in seconds.
SMALL_ARCH = Config.fromfile(SHAPES).model.backbone.arch.to_dict()
SMALL_BACKBONE = dict(arch=dict(_delete_=True, **SMALL_ARCH))
SMALL_DETECTOR = dict(backbone=SMALL_BACKBONE, neck=dict(in_channels=[32, 64, 96, 128]))


def test_there_are_six_configs_and_a_small_one():
    assert sorted(path.stem for path in FOLDER.glob('dsnet_*_in1k.py')) == sorted(NAMES)
    check_safety(Config.fromfile(SHAPES))


@pytest.mark.parametrize('name', NAMES)
def test_recipe(name):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    assert cfg.custom_imports.imports == ['dsnet_mm']
    check_safety(cfg)
    backbone = cfg.model.backbone
    assert backbone.type == 'DSNet'
    assert backbone.arch == ARCHS[name.split('_')[1]]
    assert backbone.get('align', True) == ('noalign' not in name)
    assert (backbone.drop_path_rate, backbone.attn_drop_rate) == (0.1, 0.1)
    assert backbone.norm_eval is False
    assert 'init_cfg' not in backbone
    assert cfg.model.train_cfg.augments == [
        dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]  # fmt: skip
    assert cfg.model.head.loss == dict(
        type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'
    )

    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    assert 'clip_grad' not in cfg.optim_wrapper
    assert cfg.train_cfg.max_epochs == 300
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.end, warmup.by_epoch) == ('LinearLR', 5, True)
    assert warmup.start_factor * optimizer.lr == pytest.approx(1e-6)
    assert (cosine.type, cosine.begin, cosine.eta_min) == ('CosineAnnealingLR', 5, 1e-5)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024

    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert (steps['RandomResizedCrop'].scale, steps['RandomFlip'].prob) == (224, 0.5)
    augment = steps['RandAugment']
    assert augment.policies == 'timm_increasing'
    assert (augment.num_policies, augment.magnitude_level, augment.magnitude_std) == (2, 9, 0.5)
    assert steps['RandomErasing'].erase_prob == 0.25
    for dataloader in (cfg.val_dataloader, cfg.test_dataloader):
        steps = {step.type: step for step in dataloader.dataset.pipeline}
        assert (steps['ResizeEdge'].scale, steps['ResizeEdge'].edge) == (248, 'short')
        assert steps['ResizeEdge'].interpolation == 'bicubic'
        assert steps['CenterCrop'].crop_size == 224
        assert (dataloader.dataset.type, dataloader.dataset.split) == ('ImageNet', 'val')
    assert set(find_paths(cfg)) == {'data/imagenet/train', 'data/imagenet/val'}


@pytest.mark.parametrize('name', NAMES)
def test_builds_computes_a_loss_and_predicts(name):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    model = mmpretrain.get_model(cfg)
    wanted = dsnet_classifier(
        DSNet.arch_zoo[cfg.model.backbone.arch]['depths'], 'noalign' not in name, 1000, name
    ).state_dict()
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in wanted.items()
    }

    samples = [mmpretrain.structures.DataSample().set_gt_label(label) for label in (3, 999)]
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    assert data['data_samples'][0].gt_score.sum() == pytest.approx(1)
    loss = model.train()(**data, mode='loss')['loss']
    assert loss.isfinite()
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []

    data = model.data_preprocessor(dict(inputs=images), training=False)
    with torch.no_grad():
        results = model.eval()(**data, mode='predict')
    for result in results:
        assert result.pred_score.shape == (1000,)
        assert result.pred_score.sum() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize('path', sorted(FOLDER.glob('glnet_*.py')), ids=lambda path: path.stem)
def test_recipe_of_glnet(path):
    cfg = Config.fromfile(path)
    check_safety(cfg)
    backbone, optimizer = cfg.model.backbone, cfg.optim_wrapper.optimizer
    assert path.stem == f'glnet_{backbone.arch}_in1k'
    rates = {'4g': 0.15, '9g': 0.3, '16g': 0.4, 'stl': 0.1, 'stl_paramslot': 0.1}
    assert backbone.drop_path_rate == rates[backbone.arch]
    assert backbone.norm_eval is False
    width = GLNet.find_arch(backbone.arch)['embed_dims'][-1]
    assert cfg.model.neck.in_channels == cfg.model.head.in_channels == width
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 2e-3, 0.05)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.eta_min) == (5, 5, 1e-5)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.train_dataloader.sampler.type == 'RepeatAugSampler'
    steps = {step.type: step for step in cfg.test_dataloader.dataset.pipeline}
    assert (steps['ResizeEdge'].scale, steps['CenterCrop'].crop_size) == (256, 224)


def test_decay_of_glnet():
    """As published: the scale of the slots and learned slots decay."""
    cfg = Config.fromfile(FOLDER / 'glnet_16g_in1k.py')
    arch = dict(GLNet.arch_zoo['16g'], depths=(1, 1, 2, 1), embed_dims=(32,) * 4)
    model = GLNet(dict(arch, learned_slots=True))
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {names[id(g['params'][0])]: g['weight_decay'] for g in optimizer.param_groups}
    assert len(decays) == len(names)
    for name, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or name.endswith(('.bias', '.gamma'))
        assert decays[name] == (0 if spared else 0.05), name
    assert decays['stages.0.blocks.0.slot_scale'] == decays['stages.0.blocks.0.init_slots'] == 0.05


def test_no_decay_on_norms_and_biases():
    cfg = Config.fromfile(TINY)
    model = mmpretrain.get_model(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {id(group['params'][0]): group['weight_decay'] for group in groups}
    norms = {
        f'{name}.weight'
        for name, module in model.named_modules()
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))
    }
    assert 'neck.norm.weight' in norms
    for name, parameter in model.named_parameters():
        free = name in norms or name.endswith('.bias')
        assert decays[id(parameter)] == (0 if free else 0.05), name


def test_average_of_weights_and_statistics():
    (settings,) = (hook for hook in Config.fromfile(TINY).custom_hooks if hook.type == 'EMAHook')
    settings = {k: v for k, v in settings.items() if k != 'priority'}
    hook = mmpretrain.registry.HOOKS.build(settings)
    norm = nn.BatchNorm1d(1)
    average = MODELS.build(hook.ema_cfg, default_args=dict(model=norm))
    average.update_parameters(norm)  # the first step copies
    norm.weight.data.fill_(0)
    norm.running_mean.fill_(1)
    average.update_parameters(norm)
    assert average.module.weight.item() == pytest.approx(0.99996, abs=1e-6)
    assert average.module.running_mean.item() == pytest.approx(4e-5, rel=1e-3)


def test_hooks_are_found_from_both_libraries():
    for registry in (DET_HOOKS, mmpretrain.registry.HOOKS):
        for hook in (SafeCheckpointHook, StopAtNaNHook):
            assert registry.get(hook.__name__) is hook


def refusal(cfg: Config) -> str:
    with pytest.raises(UserError) as error:
        check_data(cfg, ('val',))
    return str(error.value)


def test_missing_data(tmp_path):
    cfg = Config.fromfile(TINY)
    set_data_root(cfg, str(tmp_path / 'imagenet'))
    message = refusal(cfg)
    assert f'{tmp_path}/imagenet/val is missing' in message
    assert 'image-net.org' in message
    assert 'COCO' not in message
    cfg = Config.fromfile(SHAPES)
    set_data_root(cfg, str(tmp_path))
    message = refusal(cfg)
    assert 'dsnet-mm shapes --task classification' in message
    assert 'COCO' not in message


def test_class_folders(tmp_path):
    cfg = Config.fromfile(TINY)
    set_data_root(cfg, str(tmp_path))
    (tmp_path / 'val' / 'n01440764').mkdir(parents=True)
    assert 'val has 1 folder, but the dataset has 1000 classes' in refusal(cfg)
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta' / 'val.txt').write_text('n01440764/1.jpg 0\n')
    check_data(cfg, ('val',))
    cfg = Config.fromfile(SHAPES)
    set_data_root(cfg, str(tmp_path))
    assert 'the dataset has 4 classes' in refusal(cfg)


def test_a_config_without_a_hook_draws_nothing():
    cfg = Config.fromfile(TINY)
    del cfg.default_hooks.visualization
    with pytest.raises(UserError, match='omit --show-dir'):
        draw_predictions(cfg, 'pictures')


def small_imagenet(root: Path) -> dict:
    """Settings that run a config of ImageNet on a few images of the synthetic set."""
    data = dict(data_root=str(root), metainfo=dict(classes=CLASSES), indices=16)
    loader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=data)
    model = dict(
        backbone=SMALL_BACKBONE,
        neck=dict(in_channels=128),
        head=dict(in_channels=128, num_classes=4),
    )
    return dict(
        model=model,
        data_preprocessor=dict(num_classes=4),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=dict(topk=(1,)),
        test_evaluator=dict(topk=(1,)),
        train_cfg=dict(max_epochs=1),
        param_scheduler=[],
    )


@pytest.fixture(scope='module')
def workplace(tmp_path_factory) -> Path:
    """A folder for the document's commands, with its configs made small."""
    folder = tmp_path_factory.mktemp('pretrain')
    workers = dict(num_workers=0, persistent_workers=False)
    small = {
        SHAPES: {f'{split}_dataloader': workers for split in ('train', 'val', 'test')},
        TINY: small_imagenet(folder / 'data' / 'shapes_cls'),
        RETINANET: small_detection(),
    }
    for path, settings in small.items():
        lines = [f'_base_ = {str(path)!r}']
        lines += [f'{key} = {value!r}' for key, value in settings.items()]
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text('\n'.join(lines))
    return folder


def type_in(workplace: Path, command: str, *more: str) -> str:
    """Run a command of the document in ``workplace``, on the small configs there."""
    program, *words = shlex.split(command)
    assert program == 'dsnet-mm'
    done = run_command(*words, *more, cwd=workplace)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def small_detection() -> dict:
    """Settings that run a detector of COCO on the few images of the shapes set."""
    demo = Config.fromfile(ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py')
    loader = dict(num_workers=0, persistent_workers=False)
    data = dict(metainfo=dict(classes=CLASSES), indices=4)
    return dict(
        model=dict(SMALL_DETECTOR, bbox_head=dict(num_classes=len(CLASSES))),
        train_dataloader=dict(loader, dataset=dict(data, pipeline=demo.train_pipeline)),
        val_dataloader=dict(loader, dataset=dict(data, pipeline=demo.test_pipeline)),
        train_cfg=dict(max_epochs=1),
    )


def top1(log: str) -> float:
    return float(re.findall(r'accuracy/top1: ([\d.]+)', log)[-1])


@pytest.mark.slow
def test_commands(workplace, shapes_root, monkeypatch):
    """A small classifier learns, is evaluated, and a detector starts from just its weights."""
    shapes, train, test, imagenet, weights, published, detector = COMMANDS
    type_in(workplace, shapes, '--size', '32', '--val', '40')
    assert top1(type_in(workplace, train)) > 50
    assert top1(type_in(workplace, test)) > 50
    with (workplace / 'work_dirs' / 'predictions.pkl').open('rb') as file:
        predictions = pickle.load(file)
    correct = [item['pred_label'].item() == item['gt_label'].item() for item in predictions]
    assert len(correct) == 40
    assert sum(correct) > 0.5 * len(correct)
    assert len(list((workplace / 'work_dirs' / 'pictures').iterdir())) == 40

    # mmengine starts several processes on GPUs only
    before, after = 'torchrun --nproc-per-node 8 tools/train.py ', ' --launcher pytorch'
    assert imagenet.startswith(before)
    assert imagenet.endswith(after)
    log = type_in(workplace, 'dsnet-mm train ' + imagenet.removeprefix(before).removesuffix(after))
    assert 'is for batches of 1024 images, but this run has batches of 8' in log
    trained = workplace / 'work_dirs' / 'dsnet_t_in1k' / 'epoch_1.pth'
    stored = torch.load(trained, weights_only=True)
    assert set(stored['ema_state_dict']) > {'module.neck.norm.running_mean'}
    stored_as = weights.split()[-1]  # what test_weights_page.py downloads in small
    assert stored_as in published
    top1(type_in(workplace, published.replace(stored_as, str(trained))))

    # the averaged weights, as `dsnet-mm train` reads them first
    words = shlex.split(detector.replace('epoch_300', 'epoch_1'))
    monkeypatch.chdir(workplace)
    options = dict(word.split('=') for word in words[words.index('--cfg-options') + 1 :])
    cfg = load_config(words[2], cfg_options=options)
    model = DET_MODELS.build(cfg.model)
    model.init_weights()
    assert_starts_from(model.state_dict(), stored['state_dict'])

    # the whole way, from the classifier that learned; at a rate of 0 its weights stay
    learned = 'work_dirs/dsnet_mini_shapes/epoch_6.pth'
    type_in(
        workplace,
        detector.replace('work_dirs/dsnet_t_in1k/epoch_300.pth', learned),
        'optim_wrapper.optimizer.lr=0',
        f'--data-root={shapes_root}',
    )
    trained = workplace / 'work_dirs' / RETINANET.stem / 'epoch_1.pth'
    started = torch.load(trained, weights_only=True)['state_dict']
    assert_starts_from(started, torch.load(workplace / learned, weights_only=True)['state_dict'])


def assert_starts_from(detector: dict[str, torch.Tensor], classifier: dict[str, torch.Tensor]):
    """Assert that a detector's backbone is exactly that of a classifier."""
    names = {name for name in detector if name.startswith('backbone.')}
    assert len(names) > 100
    assert names == {name for name in classifier if name.startswith('backbone.')}
    for name in names:
        assert torch.equal(detector[name], classifier[name]), name
