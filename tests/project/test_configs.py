"""Every file in configs/ builds, computes a loss and predicts, a new one from its first day."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

from helpers.configs import check_safety
from helpers.detectors import few_regions
from helpers.paths import ROOT

DETECTORS = [
    path
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if not {'_base_', 'pretrain', 'segmentation'} & set(path.relative_to(ROOT / 'configs').parts)
]


COCO = [path for path in DETECTORS if path.stem.endswith('_coco')]
LONG = [path for path in COCO if path.stem.startswith('mask_rcnn') and '_3x_' in path.stem]
# Cascade Mask R-CNN differs in the backbone only. The other detectors have one config each.
CASCADE = [path for path in COCO if path.stem.startswith('cascade')]
# These keep the recipe of mmdet's config for ResNet-50.
TRANSFORMERS = {
    'dino-4scale_dsnet_s_12e_coco': 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    'mask2former_dsnet_s_50e_coco': 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
}
PREFIXES = dict(
    RetinaNet='retinanet',
    MaskRCNN='mask_rcnn',
    CascadeRCNN='cascade_mask_rcnn',
    FasterRCNN='faster_rcnn',
    ATSS='atss',
    DINO='dino-4scale',
    Mask2Former='mask2former',
)
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
        cfg.merge_from_dict(few_regions(cfg))
    if cfg.model.type == 'DINO':
        cfg.model.num_queries = 50  # not more than a small image has pixels on all maps
    if cfg.model.type == 'Mask2Former':
        cfg.model.data_preprocessor.batch_augments = None  # pads to 1024x1024
    cfg.merge_from_dict({f'model.backbone.{key}': value for key, value in backbone.items()})
    model = MODELS.build(cfg.model)
    model.init_weights()
    return cfg, model


def loss_of(cfg, model):
    """Loss on two images of different shapes; padding, masks and flips are mmdet's matter."""
    data = demo_mm_inputs(
        2, [[3, 96, 128], [3, 127, 97]], num_classes=4, with_mask='segm' in cfg.val_evaluator.metric
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
        if path not in LONG and path not in CASCADE[:-1]
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
    # no batch pads images of different sizes to one; the shapes have one size
    assert cfg.test_dataloader.batch_size == 1 or path.stem.endswith('_shapes')


@pytest.mark.parametrize(
    'path', [path for path in COCO if path.stem not in TRANSFORMERS], ids=lambda path: path.stem
)
def test_recipe(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    one_stage, model = path.stem.startswith('retinanet'), path.stem.split('_fpn')[0]
    if 'r50' in model:
        expected = dict(type='SGD', lr=0.01 if one_stage else 0.02, weight_decay=1e-4)
    elif 'swin' not in model and one_stage:
        expected = dict(type='AdamW', lr=1e-4, weight_decay=1e-4)
    else:
        expected = dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    assert {key: optimizer[key] for key in expected} == expected
    if optimizer.type == 'AdamW':
        exceptions = cfg.optim_wrapper.paramwise_cfg
        assert (exceptions.norm_decay_mult, exceptions.bias_decay_mult) == (0, 0)
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


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_the_recipe_of_a_transformer_is_that_of_mmdet(name, tmp_path):
    ours = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    (tmp_path / 'theirs.py').write_text(f'_base_ = {TRANSFORMERS[name]!r}')
    theirs = Config.fromfile(tmp_path / 'theirs.py')
    for split in ('train', 'val', 'test'):  # a folder that the config inherits and does not read
        theirs[f'{split}_dataloader'].dataset.data_prefix.pop('seg', None)
    for key, value in theirs.items():
        if key not in ('model', 'optim_wrapper', 'default_hooks'):
            assert ours[key] == value, key
    for key, value in theirs.optim_wrapper.items():
        if key != 'paramwise_cfg':
            assert ours.optim_wrapper[key] == value, key
    for key, value in theirs.model.items():
        if key not in ('backbone', 'neck', 'panoptic_head'):
            assert ours.model[key] == value, key


def test_every_cascade_has_the_same_heads():
    models = [Config.fromfile(path).model for path in CASCADE]
    assert len(models) == 5
    for model in models:
        assert model.roi_head == models[0].roi_head
        for head in model.roi_head.bbox_head:
            assert (head.type, head.norm_cfg.type) == ('ConvFCBBoxHead', 'SyncBN')
            assert (head.num_shared_convs, head.num_shared_fcs) == (4, 1)
            assert (head.reg_class_agnostic, head.reg_decoded_bbox) == (False, True)
            assert head.loss_bbox == dict(type='GIoULoss', loss_weight=10.0)
    deviations = [head.bbox_coder.target_stds[0] for head in models[0].roi_head.bbox_head]
    assert deviations == [0.1, 0.05, 0.033]


def test_the_comparison_is_complete():
    models = [f'dsnet_{size}_{neck}' for size in 'tsb' for neck in ('fpn', 'dsfpn', 'noalign_fpn')]
    models += ['r50_fpn', 'r50_dsfpn', 'swin_t_fpn']
    models += [f'glnet_{size}_{neck}' for size in ('stl', '4g') for neck in ('fpn', 'dsfpn')]
    wanted = {f'{d}_{m}_1x_coco' for d in ('retinanet', 'mask_rcnn') for m in models}
    wanted |= {f'mask_rcnn_{m}_fpn_3x_ms_coco' for m in ('dsnet_s', 'r50', 'swin_t')}
    models = ['dsnet_t', 'dsnet_s', 'dsnet_b', 'r50', 'swin_t']
    wanted |= {f'cascade_mask_rcnn_{m}_fpn_3x_ms_coco' for m in models}
    wanted |= {f'{d}_dsnet_s_fpn_1x_coco' for d in ('faster_rcnn', 'atss')} | set(TRANSFORMERS)
    assert {path.stem for path in COCO} == wanted


@pytest.mark.parametrize('path', COCO, ids=lambda path: path.stem)
def test_the_name_of_a_config_is_its_model(path):
    cfg = Config.fromfile(path)
    backbone, detector = cfg.model.backbone, PREFIXES[cfg.model.type]
    neck = {'FPN': '_fpn', 'DSFPN': '_dsfpn'}.get(cfg.model.get('neck', {}).get('type'), '')
    schedule = {12: '1x', 36: '3x_ms'}.get(cfg.train_cfg.get('max_epochs'))
    if backbone.type == 'DSNet':
        size = backbone.arch[0] + ('' if backbone.get('align', True) else '_noalign')
        name = f'dsnet_{size}'
        published = f'dsnet://{backbone.arch}_in1k'
        is_published = backbone.get('align', True)
        wanted = published if is_published else f'checkpoints/{name}_in1k.pth'
        assert backbone.init_cfg.checkpoint == wanted
        is_of_the_paper = detector in ('retinanet', 'mask_rcnn')
        assert backbone.get('out_norm_cfg') == (None if is_of_the_paper else dict(type='LN'))
    elif backbone.type == 'GLNet':
        name = f'glnet_{backbone.arch}'
        assert backbone.init_cfg.checkpoint == f'checkpoints/{name}_in1k.pth'
        assert backbone.out_norm_cfg == dict(type='LN', eps=1e-6)
    else:
        name = {'ResNet': 'r50', 'SwinTransformer': 'swin_t'}[backbone.type]
        assert '50' in backbone.init_cfg.checkpoint or 'tiny' in backbone.init_cfg.checkpoint
    if path.stem not in TRANSFORMERS:
        assert path.stem == f'{detector}_{name}{neck}_{schedule}_coco'
    else:
        assert path.stem.startswith(f'{detector}_{name}_')


def no_decay(config):
    """Return the decay and learning rate of each parameter, and the prefixes of all norms."""
    cfg, model = build(ROOT / 'configs' / f'{config}.py', init_cfg=None)
    optimizer = Runner.build_optim_wrapper(SimpleRunner(model), cfg.optim_wrapper).optimizer
    groups = {id(group['params'][0]): group for group in optimizer.param_groups}
    norms = tuple(
        f'{name}.'
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.BatchNorm2d))
    )
    assert len(norms) > 50
    return {name: groups[id(p)] for name, p in model.named_parameters() if p.requires_grad}, norms


@pytest.mark.parametrize(
    ('config', 'decay'),
    [('retinanet_dsnet_t_dsfpn_1x_coco', 1e-4), ('atss_dsnet_s_fpn_1x_coco', 0.05)],
)
def test_no_decay_on_norms_and_biases(config, decay):
    groups, norms = no_decay(config)
    for name, group in groups.items():
        free = name.startswith(norms) or name.endswith('.bias')
        assert group['weight_decay'] == (0 if free else decay), name
        assert group['lr'] == 1e-4


def test_mask2former_has_no_decay_on_norms_and_a_smaller_rate_in_the_backbone():
    groups, norms = no_decay('mask2former_dsnet_s_50e_coco')
    queries = ('query_embed', 'query_feat', 'level_embed')
    for name, group in groups.items():
        in_backbone = name.startswith('backbone.')
        assert group['lr'] == pytest.approx(1e-5 if in_backbone else 1e-4), name
        free = name.startswith(norms) or any(word in name for word in queries)
        assert group['weight_decay'] == (0 if free else 0.05), name


class SimpleRunner:
    """What ``Runner.build_optim_wrapper`` reads of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
