"""Test the counts of parameters and MACs, and their tables."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from dsnet_mm.analysis.benchmark import Setting, prepare, workload
from dsnet_mm.analysis.building import build_model, detector_configs
from dsnet_mm.analysis.macs import NUM_PROPOSALS, count_macs, count_model_macs, count_parameters
from dsnet_mm.analysis.memory import peak_memory
from dsnet_mm.analysis.model_info import (
    DETECTION_SIZE,
    PAPERS,
    describe_backbone,
    describe_config,
)
from dsnet_mm.analysis.tables import model_tables, replace_block
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSBlock, DSNet
from dsnet_mm.models.published import as_published
from helpers.commands import run_command
from helpers.paths import ROOT

# M parameters and G MACs at 224x224 of the classifiers in the published architecture
COMPUTED = {
    'DS-Net-T': ('9.10', '1.58'),
    'DS-Net-T*': ('10.53', '1.83'),
    'DS-Net-S': ('19.61', '3.06'),
    'DS-Net-S*': ('23.00', '3.55'),
    'DS-Net-B': ('41.81', '7.18'),
    'DS-Net-B*': ('49.34', '8.29'),
    'GLNet-STL': ('30.30', '4.35'),
    'GLNet-4G': ('27.00', '4.48'),
    'GLNet-9G': ('60.01', '9.59'),
    'GLNet-16G': ('106.06', '16.60'),
}
described = cache(describe_backbone)  # counting takes seconds for each model
MASK_RCNN = ROOT / 'configs' / 'mask_rcnn_dsnet_t_fpn_1x_coco.py'
RETINANET = ROOT / 'configs' / 'retinanet_dsnet_t_dsfpn_1x_coco.py'


def run_info(*args):
    return run_command('info', *args)


def block_of_docs(name):
    """Return the text of a block of docs/models.md."""
    text = (ROOT / 'docs' / 'models.md').read_text(encoding='utf-8')
    return text.split(f'<!-- {name} -->\n')[1].split(f'\n<!-- end of {name} -->')[0]


def block_macs(height, width, grid_height, grid_width, dims):
    """Return the MACs of a published DS-Block with equal streams, and those that the grid saves."""
    pixels, cells, half = height * width, grid_height * grid_width, dims // 2
    published = (
        9 * dims * pixels  # positional encoding
        + dims * dims * pixels  # in_proj
        + 9 * half * pixels  # local propagation
        + (3 * half**2 * cells + 2 * cells**2 * half)  # global propagation
        + 4 * half**2 * (pixels + cells)  # projections of the alignments
        + 2 * (2 * pixels * cells * half)  # attentions of the alignments
        + dims * dims * pixels  # out_proj
        + 2 * 4 * dims * dims * pixels  # MLP
    )
    # the products of in_proj and out_proj with the global channels
    saved = 2 * dims * half * (pixels - cells)
    return published, saved


@pytest.mark.parametrize(('cells', 'grid'), [(None, (3, 4)), (6, (2, 2))])
@pytest.mark.parametrize('device', ['meta', 'cpu'])
def test_macs_of_a_block_follow_from_its_equations(device, cells, grid):
    block = DSBlock(32, num_heads=2, grid_stride=4, max_grid_cells=cells).to(device).eval()
    published, saved = block_macs(13, 18, *grid, 32)
    x = torch.rand(1, 32, 13, 18, device=device)
    assert count_macs(block, x)[0] == published - saved
    assert count_macs(as_published(block), x)[0] == published


@pytest.fixture
def backbone():
    return DSNet('small', norm_eval=False).eval()


def attention_macs(backbone: DSNet, side: int) -> int:
    """Return the MACs of both kinds of attention in all blocks for a square image."""
    macs = 0
    for number, stage in enumerate(backbone.stages):
        pixels = (side // 4 // 2**number) ** 2
        for block in stage.blocks:
            cells, half = pixels // block.grid_stride**2, block.stream_dims[1]
            macs += 2 * cells**2 * half + 4 * pixels * cells * half
    return macs


def test_macs_without_attention_are_linear_in_the_pixels(backbone):
    sides = 256, 512, 1024, 2048
    backbone = backbone.to('meta')
    linear = [
        count_macs(backbone, torch.empty(1, 3, side, side, device='meta'))[0]
        - attention_macs(backbone, side)
        for side in sides
    ]
    assert linear == [linear[0] * 4**number for number in range(len(sides))]


def test_all_macs_are_linear_in_the_pixels_with_a_limited_grid():
    backbone = DSNet('small', max_grid_cells=49).to('meta').eval()
    macs = [
        count_macs(backbone, torch.empty(1, 3, side, side, device='meta'))[0]
        for side in (512, 1024, 2048)
    ]
    assert macs[2] - macs[1] == 4 * (macs[1] - macs[0])


def test_memory_is_at_most_linear_in_the_pixels(backbone):
    small, large = (torch.rand(1, 3, side, side) for side in (128, 256))
    with torch.no_grad():
        peaks = [peak_memory(lambda x=x: backbone(x), 'cpu') for x in (small, large)]
    assert 1 < peaks[1] / peaks[0] <= 4.05


@pytest.mark.parametrize('device', ['meta', 'cpu'])
@pytest.mark.parametrize('training', [False, True])
def test_fused_attention_counts(device, training):
    q = torch.rand(2, 3, 7, 16, device=device, requires_grad=training)
    k, v = torch.rand(2, 2, 3, 5, 16, device=device)
    macs, out = count_macs(F.scaled_dot_product_attention, q, k, v)
    assert macs == 2 * (2 * 3 * 7 * 5 * 16)
    assert out.shape == q.shape


@pytest.mark.parametrize('name', PAPERS)
def test_models_have_the_computed_parameters_and_macs(name):
    info = described(name)
    figures = f'{info.parameters / 1e6:.2f}', f'{info.published_macs / 1e9:.2f}'
    assert figures == COMPUTED[name]
    # the global grid saves MACs; fused clustering computes the similarities twice
    saves = name.startswith('DS-Net')
    assert (info.executed_macs < info.published_macs) == saves
    assert (info.backbone_executed_macs < info.backbone_published_macs) == saves
    # batch norm and linear layer of the classifier
    width = {'GLNet-STL': 768, 'GLNet-9G': 768, 'GLNet-16G': 1024}.get(name, 512)
    assert info.parameters - info.backbone_parameters == 2 * width + (width + 1) * 1000


def test_parts_of_a_two_stage_detector():
    model = build_model(MASK_RCNN).eval()
    cost = count_model_macs(model, 64, 96)
    proposals = [InstanceData(bboxes=torch.tensor([[0.0, 0.0, 50.0, 40.0]]).repeat(1000, 1))]
    with torch.no_grad():
        body, features = count_macs(model.extract_feat, torch.rand(1, 3, 64, 96))
        first_stage, _ = count_macs(model.rpn_head, features)
        second_stage, _ = count_macs(model.roi_head, features, proposals)
    assert NUM_PROPOSALS == 1000
    assert cost.backbone + cost.neck == body
    assert cost.heads == first_stage + second_stage
    parameters = count_parameters(model)
    assert parameters.whole == sum(p.numel() for p in model.parameters())
    assert parameters.neck == sum(p.numel() for p in model.neck.parameters())


@pytest.mark.slow
def test_a_cascade_masks_as_many_regions_as_mask_rcnn():
    model = build_model(ROOT / 'configs' / 'cascade_mask_rcnn_dsnet_t_fpn_3x_ms_coco.py')
    cost = count_model_macs(model, 64, 96)
    model = model.to('meta').eval()
    features = model.extract_feat(torch.empty(1, 3, 64, 96, device='meta'))
    first_stage, _ = count_macs(model.rpn_head, features)
    second_stage = 0
    for heads, number, size in (
        (model.roi_head.bbox_head, 1000, 7),
        (model.roi_head.mask_head, 100, 14),
    ):
        regions = torch.empty(number, 256, size, size, device='meta')
        second_stage += sum(count_macs(head, regions)[0] for head in heads)
    assert cost.heads == first_stage + second_stage


@pytest.mark.slow
def test_a_detector_that_reads_values_is_counted_too():
    model = build_model(ROOT / 'configs' / 'mask2former_dsnet_s_50e_coco.py').eval()
    cost = count_model_macs(model, 64, 96)
    sample = DetDataSample(metainfo=dict(img_shape=(64, 96), batch_input_shape=(64, 96)))
    with torch.no_grad():
        body, features = count_macs(model.backbone, torch.rand(1, 3, 64, 96))
        heads, _ = count_macs(model.panoptic_head, features, [sample])
    assert (cost.backbone, cost.neck, cost.heads) == (body, 0, heads)
    assert heads > 1e8


def test_parts_of_a_one_stage_detector():
    model = build_model(RETINANET).eval()
    cost = count_model_macs(model, 64, 96)
    image = torch.rand(1, 3, 64, 96)
    assert cost.whole == count_macs(model, image)[0]
    assert cost.backbone == count_macs(model.backbone, image)[0]
    assert cost.heads == count_macs(model.bbox_head, model.extract_feat(image))[0]


def test_macs_of_a_classifier(tmp_path):
    config = tmp_path / 'classifier.py'
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18), "
        "neck=dict(type='GlobalAveragePooling'), "
        "head=dict(type='LinearClsHead', num_classes=10, in_channels=512))\n"
    )
    info = describe_config(config, (64, 64))
    assert (info.parameters.heads, info.executed_macs.heads) == (5130, 5120)
    assert info.executed_macs == info.published_macs


@pytest.mark.slow
def test_documentation_shows_what_the_tool_makes():
    """Recompute the table of the backbones, and the rows of some detectors."""
    block = block_of_docs('model table')
    assert block.startswith(model_tables([described(name) for name in PAPERS], []))
    names = [path.stem for path in detector_configs()]
    assert len(names) == 32
    assert re.findall(r'^\| (\w+_coco) ', block, re.MULTILINE) == names * 2
    for name in (
        'mask_rcnn_dsnet_t_dsfpn',
        'mask_rcnn_glnet_stl_fpn',
        'retinanet_dsnet_s_noalign_fpn',
        'retinanet_glnet_4g_dsfpn',
        'retinanet_swin_t_fpn',
    ):
        made = model_tables([], [describe_config(ROOT / 'configs' / f'{name}_1x_coco.py')])
        rows = [line for line in made.splitlines() if '_coco' in line]
        assert len(rows) == 2
        assert all(row in block for row in rows), name


def test_documentation_shows_the_memory_of_all_detectors():
    """Check the rows, and measure the forward passes of one again."""
    block = block_of_docs('memory table')
    rows = re.findall(r'^\| (\w+_coco) ' + r'\| (\d+) ' * 4 + r'\|$', block, re.MULTILINE)
    assert [row[0] for row in rows] == [path.stem for path in detector_configs()]
    for _, backbone, neck, prediction, training in rows:
        assert 0 < int(neck) <= int(prediction)
        assert 0 < int(backbone) <= int(prediction) < int(training)
    assert re.search(r'Measured on \d{4}-\d\d-\d\d with torch \d+\.\d+\.\d+, on a CPU', block)

    shown = {row[0]: [float(number) for number in row[1:3]] for row in rows}
    model = build_model(RETINANET)
    settings = [Setting(part, *DETECTION_SIZE) for part in ('backbone', 'neck')]
    measured = [peak_memory(workload(prepare(model, each), each)) / 1e6 for each in settings]
    assert measured == pytest.approx(shown['retinanet_dsnet_t_dsfpn_1x_coco'], rel=0.05)


def test_tables_replace_a_block_of_a_document(tmp_path):
    document = tmp_path / 'models.md'
    document.write_text('before\n<!-- model table -->\nold\n<!-- end of model table -->\nafter\n')
    replace_block(document, 'model table', 'new')
    replace_block(document, 'model table', 'new')
    assert document.read_text() == (
        'before\n<!-- model table -->\nnew\n<!-- end of model table -->\nafter\n'
    )
    with pytest.raises(UserError, match='lacks the comments of the other'):
        replace_block(document, 'other', 'new')
    with pytest.raises(UserError, match='cannot be read'):
        replace_block(tmp_path / 'none.md', 'model table', 'new')


@pytest.mark.slow
def test_command_prints_json_of_a_config():
    done = run_info(RETINANET, '--size', 64, 96, '--json')
    assert done.returncode == 0, done.stderr
    (info,) = json.loads(done.stdout)
    expected = describe_config(RETINANET, (64, 96))
    assert info['name'] == 'retinanet_dsnet_t_dsfpn_1x_coco'
    assert info['executed_macs']['neck'] == expected.executed_macs.neck
    assert info['published_macs']['neck'] > info['executed_macs']['neck']
    assert info['parameters']['backbone'] == expected.parameters.backbone


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'is not a file; pass the path of a config'),
        ("model = dict(type='Nothing')", 'no model can be built from'),
        ('no config at all', 'cannot be read as a config'),
        ('lr = 1', 'no model can be built from'),
        ("model = dict(type='mmdet.FPN', in_channels=[8], out_channels=8, num_outs=1)", 'backbone'),
    ],
)
def test_a_config_without_a_model_is_reported(tmp_path, content, words):
    config = tmp_path / 'config.py'
    if content:
        config.write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        build_model(config)
    assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_command_reports_errors_in_one_line(tmp_path):
    done = run_info(tmp_path / 'none.py')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in done.stderr
