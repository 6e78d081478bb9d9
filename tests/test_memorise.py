"""Whether a detector can learn a few images by heart, the tool in small."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, check_safety, documented, tool
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from torch import nn

from dsnet_mm.data.checking.classes import head_classes
from dsnet_mm.engine import FreshMetricsHook
from dsnet_mm.engine.memorise import (
    CutStreamHook,
    GoalHook,
    SteadyNormsHook,
    pick_images,
    set_up_memorising,
)
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSNet

CONFIGS = ROOT / 'configs'
ARCH = dict(embed_dims=(16, 32), depths=(1, 2), num_heads=(1, 2), mlp_ratio=2.0)


@pytest.fixture
def ann_file(tmp_path):
    """Four images of 100x100 pixels: objects of 4000, of 9000 and 100, of 5000, and a crowd."""
    objects = [(1, 4000, 0), (2, 9000, 0), (2, 100, 0), (3, 5000, 0), (4, 9999, 1)]
    path = tmp_path / 'annotations.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=i, width=100, height=100) for i in (1, 2, 3, 4)],
                annotations=[
                    dict(id=i, image_id=image, category_id=image, area=area, iscrowd=crowd)
                    for i, (image, area, crowd) in enumerate(objects)
                ],
                categories=[dict(id=i, name=f'kind {i}') for i in (4, 3, 2, 1)],
            )
        )
    )
    return path


@pytest.mark.parametrize(('count', 'chosen'), [(1, [3]), (2, [1, 3]), (3, [1, 2, 3])])
def test_images_of_large_objects_are_picked(ann_file, count, chosen):
    data = pick_images(ann_file, count)
    assert [image['id'] for image in data['images']] == chosen
    assert {item['image_id'] for item in data['annotations']} == set(chosen)
    assert [category['id'] for category in data['categories']] == chosen[::-1]


def test_an_image_without_a_side_is_named(ann_file):
    data = json.loads(ann_file.read_text())
    data['images'][2]['width'] = 0
    ann_file.write_text(json.dumps(data))
    with pytest.raises(UserError, match='has 1 image without width or height, that with the id 3'):
        pick_images(ann_file, 1)


def test_too_few_images_are_named(ann_file, tmp_path):
    with pytest.raises(UserError, match='has 4 images with objects, fewer than 5'):
        pick_images(ann_file, 5)
    (tmp_path / 'list.json').write_text('[1]')
    for name in ('list.json', 'none.json'):
        with pytest.raises(UserError, match=f'{name} cannot be read as COCO annotations'):
            pick_images(tmp_path / name, 1)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*_1x_coco.py')), ids=lambda path: path.stem)
def test_every_config_starts_from_scratch_on_the_same_images(path):
    cfg = Config.fromfile(path)
    kinds = [dict(id=7, name='cat'), dict(id=3, name='dog')]
    chosen = dict(images=[dict(id=i) for i in range(8)], categories=kinds)
    set_up_memorising(cfg, 'images.json', chosen, passes=1000)
    assert cfg.model.backbone.init_cfg is None
    assert cfg.model.backbone.get('norm_eval', False) is False
    check_safety(cfg)
    train = cfg.train_dataloader.dataset
    assert train.times * 8 * cfg.train_cfg.max_epochs == 960
    assert (
        train.dataset.ann_file == cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    )
    assert train.dataset.metainfo.classes == ('cat', 'dog')
    heads = [count for _, count in head_classes(cfg.model)]
    masks = path.stem.startswith('mask_rcnn')
    assert cfg.val_evaluator.metric == (['bbox', 'segm'] if masks else 'bbox')
    assert heads == ([2, 2] if masks else [2])
    assert not masks or cfg.model.train_cfg.rcnn.sampler.num == 64
    goals = {'coco/bbox_mAP': 0.9, 'coco/segm_mAP': 0.8} if masks else {'coco/bbox_mAP': 0.9}
    assert dict(type='GoalHook', goals=goals) in cfg.custom_hooks
    assert dict(type='SteadyNormsHook', begin=6) in cfg.custom_hooks
    with pytest.raises(UserError, match='give at least 64'):
        set_up_memorising(cfg, 'images.json', chosen, passes=63)


def test_linear_layers_over_whole_regions_learn_more_slowly():
    cfg = Config.fromfile(CONFIGS / 'mask_rcnn_dsnet_t_fpn_1x_coco.py')
    chosen = dict(images=[dict(id=1)], categories=[dict(id=7, name='cat')])
    set_up_memorising(cfg, 'images.json', chosen, passes=8)
    model = nn.ModuleDict({'bbox_head': MODELS.build(cfg.model.roi_head.bbox_head)})
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    rates = {id(parameter): group['lr'] for group in groups for parameter in group['params']}
    found = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    slow = {name for name, rate in found.items() if rate == pytest.approx(1e-4)}
    assert {name.split('.')[1] for name in slow} == {'shared_fcs'}
    assert {name.split('.')[1] for name in found.keys() - slow} == {'fc_cls', 'fc_reg'}
    assert {found[name] for name in found.keys() - slow} == {5e-4}


def test_norms_are_steady_from_the_epoch_that_is_named():
    norms = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.BatchNorm1d(3))
    for epoch, trained in ((5, True), (6, False), (7, False)):
        norms.train()  # as the loop does before an epoch
        SteadyNormsHook(begin=6).before_train_iter(SimpleNamespace(model=norms, epoch=epoch), 0)
        assert [module.training for module in norms] == [trained, True, trained]


@pytest.mark.parametrize('align', [False, True])
@pytest.mark.parametrize('stream', ['local', 'global'])
def test_a_cut_stream_gets_no_gradient(stream, align):
    model = DSNet(ARCH, norm_eval=False, align=align, out_indices=(0, 1))
    runner = type('Runner', (), dict(model=model))
    CutStreamHook(stream).before_train(runner)
    sum(out.square().sum() for out in model(torch.rand(1, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (f'{stream}_prop' in name), name


@pytest.mark.parametrize(
    ('metrics', 'ends'),
    [
        (dict(box=0.9, mask=0.8), True),
        (dict(box=0.95, mask=0.79), False),
        (dict(box=0.95), False),
        (None, False),
    ],
)
def test_a_training_ends_when_every_goal_is_reached(metrics, ends):
    loop = SimpleNamespace(stop_training=False)
    GoalHook(dict(box=0.9, mask=0.8)).after_val_epoch(SimpleNamespace(train_loop=loop), metrics)
    assert loop.stop_training is ends


def test_a_resumed_training_does_not_return_the_metrics_of_its_checkpoint():
    """They are of the epoch before; where nothing is left to train, none take their place."""
    hub = MessageHub.get_instance('resumed')
    hub.update_scalar('val/coco/bbox_mAP', 0.5)
    hub.update_scalar('train/loss', 1.0)
    FreshMetricsHook().before_train(SimpleNamespace(message_hub=hub))
    assert list(hub.log_scalars) == ['train/loss']


def test_a_config_without_coco_annotations_is_refused(tmp_path, monkeypatch):
    for split in ('train', 'val'):
        for name in ('circle', 'square', 'star', 'triangle'):
            (tmp_path / split / name).mkdir(parents=True)
    config = CONFIGS / 'pretrain' / 'dsnet_mini_shapes.py'
    arguments = ['memorise.py', str(config), '--data-root', str(tmp_path), '--work-dir', 'none']
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit, match='trains on a CustomDataset that names no file'):
        runpy.run_path(str(ROOT / 'tools' / 'memorise.py'), run_name='__main__')


@pytest.mark.slow
def test_the_tool(shapes_root, tmp_path):
    _, script, config, option, _ = documented('docs/reproduce.md', 'memorise.py')
    assert (ROOT / config).exists()
    options = ('--work-dir', tmp_path, '--images', 2, '--passes', 16, '--cut', 'local')
    detector = 'configs/demo/retinanet_dsnet_mini_shapes.py'
    done = tool(Path(script).name, detector, option, shapes_root, *options)
    assert done.returncode == 0, done.stderr
    assert 'retinanet_dsnet_mini_shapes_cut_local after 16 images in batches of 4' in done.stdout
    assert len(json.loads((tmp_path / 'images.json').read_text())['images']) == 2
    again = tool('memorise.py', detector, option, shapes_root, *options, '--resume')
    assert again.returncode == 0, again.stderr
    assert 'after 16 images' in again.stdout
    assert 'Epoch(train)' in done.stdout + done.stderr
    assert 'Epoch(train)' not in again.stdout + again.stderr  # there was nothing left to train
    assert 'no AP' in again.stdout
    ap = re.search(r'bbox AP (\S+) on the images themselves', done.stdout)
    assert ap is None or -1 <= float(ap[1]) < 0.5
