"""The snippets of docs/other_detectors.md work, and its table is true of each family."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
import torch
from mmengine.config import Config

from dsnet_mm.environment import installed_versions, stack_of
from helpers.detector_trials import PAGE, SMALL_ARCH, rows, trials
from helpers.documents import blocks, read

SNIPPETS = {
    re.match(r'# (?:.*: )?(\w+\.py)\n', block)[1]: block for block in blocks(read(PAGE), 'python')
}
ROWS = rows()
FAILING = [path for path, row in ROWS.items() if 'no' in row]
FAMILIES = {path.split('/')[0]: path for path in reversed(ROWS) if path not in FAILING}
"""The first config of each folder in the table that works."""
# variants of ResNet, a ResNet of Detectron2, and models that detect nothing
NOT_RESNET = {'detectors', 'tridentnet', 'misc', 'reid'}
STACK = stack_of(installed_versions())
TRAINED = set(
    'atss autoassign centernet condinst deformable_detr detr dino faster_rcnn fcos fsaf gfl '
    'libra_rcnn mask2former mask_rcnn maskformer nas_fcos pafpn panoptic_fpn retinanet rpn '
    'tood yolof'.split()
)


def write_new_style(folder, module):
    """Write the base of a new config, which the wheel of mmdet lacks: the same in the old style."""
    old = {
        str(path.relative_to(trials.CONFIGS)).replace('-', '_'): path
        for path in trials.CONFIGS.glob('*/*.py')
    }[module.replace('.', '/') + '.py']
    new = folder / 'configs' / f'{module.replace(".", "/")}.py'
    new.parent.mkdir(parents=True)
    Config.fromfile(old).dump(new)


@pytest.mark.slow
@pytest.mark.parametrize('name', SNIPPETS)
def test_snippets(name, tmp_path, monkeypatch):
    if base := re.search(r'from mmdet\.configs\.(\S+) import', SNIPPETS[name]):
        write_new_style(tmp_path, base[1])
        monkeypatch.setattr(
            'mmengine.config.config.get_installed_path', lambda package: str(tmp_path)
        )
    (tmp_path / name).write_text(SNIPPETS[name])
    model = Config.fromfile(tmp_path / name).model.to_dict()
    weights = model['backbone'].get('init_cfg')
    assert weights in (None, dict(type='Pretrained', checkpoint='dsnet://tiny_in1k'))
    trials.lighten(model)
    model['data_preprocessor'].pop('_scope_', None)
    detector = trials.build(model)
    assert type(detector.backbone).__name__ == 'DSNet'
    neck = getattr(detector, 'neck', None)
    assert ('DSFPN' in SNIPPETS[name]) == (type(neck).__name__ == 'DSFPN')
    assert trials.train_step(detector) == []
    trials.predict(detector)


RETINANET = 'retinanet/retinanet_r18_fpn_1x_coco.py'


@pytest.mark.slow
def test_the_command_writes_the_table(tmp_path, monkeypatch):
    """On a detector that works, and on one whose head does not exist."""
    works, fails = trials.read_model(RETINANET), trials.read_model(RETINANET)
    fails['bbox_head']['type'] = 'NoHead'
    candidates = [
        trials.Candidate('a/works.py', works, {'a', 'b'}), trials.Candidate('c/fails.py', fails)
    ]  # fmt: skip
    page = tmp_path / 'page.md'
    page.write_text('<!-- detector table -->\n<!-- end of detector table -->\n')
    monkeypatch.setattr(trials, 'TARGET', page)
    monkeypatch.setattr(trials, 'candidates', lambda: candidates)
    trials.main()
    text = page.read_text()
    assert 'Of 2 detectors, 1 work with DS-Net-T. Of 2 detectors with an FPN, 1 work with' in text
    assert 'Of the 1 that fail, 1 fail with their own ResNet too.' in text
    assert '| a/works | yes | yes | same in b |' in text
    assert '| c/fails | no | no | fails with ResNet too: KeyError: ' in text
    assert f'mmdet {trials.version_of("mmdet")}' in text


@pytest.mark.slow
def test_parameters_without_a_gradient_are_found():
    model = trials.read_model(RETINANET)
    trials.put_dsnet(model, SMALL_ARCH)
    detector = trials.build(model)
    detector.neck.unused = torch.nn.Parameter(torch.ones(1))
    assert trials.train_step(detector) == ['neck.unused']


def test_every_folder_with_a_resnet_is_in_the_table():
    named = {path.parent.name for path in trials.CONFIGS.glob('*/*.py') if trials.is_resnet(path)}
    listed = {path.split('/')[0] for path in ROWS}
    for _, _, remark in ROWS.values():
        if same := re.search('same in (.*)', remark):
            listed |= set(same[1].split(', '))
    assert listed <= named
    assert named - listed == NOT_RESNET


@pytest.mark.slow
@pytest.mark.parametrize('family', sorted({*FAMILIES, *TRAINED}))
def test_families(family):
    """One config of each folder builds; those of TRAINED also train and predict.

    To train all would take minutes. The command of the page does, with DS-Net-T.
    """
    path = FAMILIES[family]
    model = trials.read_model(f'{path}.py')
    trials.put_dsnet(model, SMALL_ARCH)
    assert trials.put_dsfpn(model) == (ROWS[path][1] == 'yes')
    if family in TRAINED:
        assert trials.try_model(model) == ''
    else:
        trials.build(model)


@pytest.mark.slow
@pytest.mark.skipif(STACK != 'openmmlab', reason='the table has the reasons of the official stack')
@pytest.mark.parametrize('path', FAILING)
def test_detectors_fail_for_the_reason_in_the_table(path):
    """So that nobody misses that a detector begins to work."""
    for package in ('fairscale', 'skimage', 'sklearn'):
        if package in ROWS[path][2] and find_spec(package):
            pytest.skip(f'{package} is installed')
    model = trials.read_model(f'{path}.py')
    trials.put_dsnet(model, SMALL_ARCH)
    trials.put_dsfpn(model)
    reason = trials.try_model(model)
    assert reason
    assert ROWS[path][2].split('; same in')[0] == f'fails with ResNet too: {reason}'
