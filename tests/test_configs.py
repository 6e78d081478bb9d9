"""Every file in configs/ builds, computes a loss and predicts, a new one from its first day."""

import pytest
import torch
from conftest import ROOT
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


def build(path, **backbone):
    register_all_modules()
    cfg = Config.fromfile(path)
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


@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
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


@pytest.mark.parametrize('frozen_stages', [0, 1, 2, 3, 4])
@pytest.mark.parametrize('name', ['retinanet_dsnet_t_fpn', 'mask_rcnn_dsnet_t_dsfpn'])
def test_frozen_stages_leave_no_parameter_without_gradient(name, frozen_stages):
    path = ROOT / 'configs' / f'{name}_1x_coco.py'
    cfg, model = build(path, init_cfg=None, frozen_stages=frozen_stages)
    loss_of(cfg, model.train()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    if frozen_stages == 4:
        assert not any(p.requires_grad for p in model.backbone.parameters())


@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_recipe(path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports.imports == ['dsnet_mm']
    assert dict(type='SafeCheckpointHook') in cfg.custom_hooks
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    if 'coco' not in path.stem:
        return
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones) == (12, [8, 11])
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    weight_decay = {'retinanet': 1e-4, 'mask': 0.05}[path.stem.split('_')[0]]
    assert cfg.optim_wrapper.optimizer.weight_decay == weight_decay
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.dataset.data_root == 'data/coco/'
    assert cfg.train_dataloader.batch_size * 8 == 16


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
