"""Every file in configs/ builds, computes a loss and predicts, a new one from its first day."""

import pytest
import torch
from conftest import FEW_REGIONS, ROOT, check_safety
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

DETECTORS = [
    path
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if not {'_base_', 'pretrain'} & set(path.relative_to(ROOT / 'configs').parts)
]


COCO = [path for path in DETECTORS if path.stem.endswith('_coco')]
LONG = [path for path in COCO if '_3x_' in path.stem]
# The others differ from one that is tested quickly by a size.
SLOW = pytest.mark.slow
QUICK = (
    'mask_rcnn_dsnet_t_dsfpn_1x_coco',
    'retinanet_dsnet_t_fpn_1x_coco',
    'retinanet_dsnet_t_noalign_fpn_1x_coco',
    'retinanet_r50_fpn_1x_coco',
    'retinanet_swin_t_fpn_shapes',
    'retinanet_dsnet_mini_shapes',
)


def build(path, **backbone):
    register_all_modules()
    cfg = Config.fromfile(path)
    if 'roi_head' in cfg.model:
        cfg.merge_from_dict(FEW_REGIONS)
    cfg.merge_from_dict({f'model.backbone.{key}': value for key, value in backbone.items()})
    model = MODELS.build(cfg.model)
    model.init_weights()
    return cfg, model


def loss_of(cfg, model):
    """Loss on two images of different shapes; padding, masks and flips are mmdet's matter."""
    data = demo_mm_inputs(
        2, [[3, 96, 128], [3, 127, 97]], num_classes=4, with_mask='mask_head' in str(cfg.model)
    )
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    return model.parse_losses(losses)[0]


def test_there_are_configs():
    assert len(DETECTORS) > 8


@pytest.mark.parametrize(
    'path',
    [
        path if path.stem in QUICK else pytest.param(path, marks=SLOW)
        for path in DETECTORS
        if path not in LONG
    ],
    ids=lambda path: path.stem,
)
def test_builds_computes_a_loss_and_predicts(path):
    cfg, model = build(path, init_cfg=None)
    loss = loss_of(cfg, model.train())
    assert loss.isfinite()
    loss.backward()
    # DistributedDataParallel stops at a parameter that the loss does not reach
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []

    data = demo_mm_inputs(1, [[3, 96, 128]], num_classes=4)
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(data, training=False), mode='predict')
    boxes = results[0].pred_instances.bboxes
    assert boxes.shape[1] == 4
    assert boxes.isfinite().all()


@pytest.mark.parametrize('path', LONG, ids=lambda path: path.stem)
def test_a_longer_training_has_the_same_model(path):
    short = path.with_stem(path.stem.replace('_3x_ms_', '_1x_'))
    assert Config.fromfile(path).model == Config.fromfile(short).model


@pytest.mark.parametrize('frozen_stages', [0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    'name', ['retinanet_dsnet_t_fpn', pytest.param('retinanet_dsnet_t_dsfpn', marks=SLOW)]
)
def test_frozen_stages_leave_no_parameter_without_gradient(name, frozen_stages):
    path = ROOT / 'configs' / f'{name}_1x_coco.py'
    cfg, model = build(path, init_cfg=None, frozen_stages=frozen_stages)
    loss_of(cfg, model.train()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    if frozen_stages == 4:
        assert not any(p.requires_grad for p in model.backbone.parameters())


@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_every_config_works_with_mmdets_own_tools(path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports.imports == ['dsnet_mm']
    check_safety(cfg)


@pytest.mark.parametrize('path', COCO, ids=lambda path: path.stem)
def test_recipe(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    masks, model = path.stem.startswith('mask_rcnn'), path.stem.split('_fpn')[0].split('_dsfpn')[0]
    if model.endswith('r50'):
        expected = dict(type='SGD', lr=0.02 if masks else 0.01, weight_decay=1e-4)
    elif model.endswith('swin_t') or masks:
        expected = dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    else:
        expected = dict(type='AdamW', lr=1e-4, weight_decay=1e-4)
    assert {key: optimizer[key] for key in expected} == expected
    epochs, steps = (36, [27, 33]) if '_3x_' in path.stem else (12, [8, 11])
    warmup, decay = cfg.param_scheduler
    assert (warmup.end, warmup.by_epoch) == (500, False)
    assert (cfg.train_cfg.max_epochs, decay.end, decay.milestones) == (epochs, epochs, steps)
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size * 8 == 16
    data = cfg.train_dataloader.dataset
    assert data.data_root == 'data/coco/'
    sizes = [step for step in data.pipeline if 'Resize' in step.type]
    if '_ms_' in path.stem:
        assert [step.scales for step in sizes] == [[(1333, s) for s in range(480, 801, 32)]]
    else:
        assert [step.scale for step in sizes] == [(1333, 800)]
    assert [step.prob for step in data.pipeline if step.type == 'RandomFlip'] == [0.5]


def test_the_comparison_is_complete():
    models = [f'dsnet_{size}_{neck}' for size in 'tsb' for neck in ('fpn', 'dsfpn', 'noalign_fpn')]
    models += ['r50_fpn', 'r50_dsfpn', 'swin_t_fpn']
    wanted = {f'{d}_{m}_1x_coco' for d in ('retinanet', 'mask_rcnn') for m in models}
    wanted |= {f'mask_rcnn_{m}_fpn_3x_ms_coco' for m in ('dsnet_s', 'r50', 'swin_t')}
    assert {path.stem for path in COCO} == wanted


@pytest.mark.parametrize('path', COCO, ids=lambda path: path.stem)
def test_the_name_of_a_config_is_its_model(path):
    cfg = Config.fromfile(path)
    backbone = cfg.model.backbone
    detector = 'retinanet' if cfg.model.type == 'RetinaNet' else 'mask_rcnn'
    neck = cfg.model.neck.type.lower()
    schedule = '3x_ms' if cfg.train_cfg.max_epochs == 36 else '1x'
    if backbone.type == 'DSNet':
        size = backbone.arch[0] + ('' if backbone.get('align', True) else '_noalign')
        name = f'dsnet_{size}'
        published = f'dsnet://{backbone.arch}_in1k'
        is_published = backbone.get('align', True)
        wanted = published if is_published else f'checkpoints/{name}_in1k.pth'
        assert backbone.init_cfg.checkpoint == wanted
    else:
        name = {'ResNet': 'r50', 'SwinTransformer': 'swin_t'}[backbone.type]
        assert '50' in backbone.init_cfg.checkpoint or 'tiny' in backbone.init_cfg.checkpoint
    assert path.stem == f'{detector}_{name}_{neck}_{schedule}_coco'


def test_no_decay_on_norms_and_biases():
    cfg, model = build(ROOT / 'configs' / 'retinanet_dsnet_t_dsfpn_1x_coco.py', init_cfg=None)
    optimizer = Runner.build_optim_wrapper(SimpleRunner(model), cfg.optim_wrapper).optimizer
    decays = {id(group['params'][0]): group['weight_decay'] for group in optimizer.param_groups}
    norms = tuple(
        f'{name}.'
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.BatchNorm2d))
    )
    assert len(norms) > 50
    for name, parameter in model.named_parameters():
        free = name.startswith(norms) or name.endswith('.bias')
        assert decays[id(parameter)] == (0 if free else 1e-4), name


class SimpleRunner:
    """What ``Runner.build_optim_wrapper`` reads of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
