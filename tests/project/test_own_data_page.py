"""Test that the commands and claims of docs/own_data.md hold."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import HOOKS, VISBACKENDS
from mmengine.runner import load_checkpoint, set_random_seed
from mmengine.visualization import Visualizer

from dsnet_mm.cli.options import read_settings
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.initial_weights import LoadFrom, check_initial_weights
from dsnet_mm.errors import UserError
from helpers.annotation_faults import ENTRY_FAULTS
from helpers.commands import dsnet_mm_ends, run_command, run_process
from helpers.datasets import CLASSES, read_json, write_split
from helpers.detectors import make_detector
from helpers.documents import blocks, command_lines, read
from helpers.paths import ROOT

TEXT = read('docs/own_data.md')
LINES = command_lines(TEXT)
FINETUNE = ROOT / 'configs' / 'finetune'
SPLITS = ('val', 'val', 'test')  # that training and both tests evaluate
SMALL = (
    'model.backbone.init_cfg=None load_from=None model.backbone.norm_eval=False '
    'model.backbone.arch=tiny train_cfg.max_epochs=1 model.test_cfg.score_thr=0.0 '
    'train_dataloader.dataset.pipeline.2.scale=(96,96) '
    'val_dataloader.dataset.pipeline.1.scale=(96,96) '
    'test_dataloader.dataset.pipeline.1.scale=(96,96)'
).split()


@pytest.fixture
def place(tmp_path, monkeypatch, shapes_root):
    """Change to a folder with a dataset in data/own, in which the commands run."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    write_split('voc', tmp_path / 'data/own', shapes_root, 'JPEGImages', 'Annotations')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_in(command):
    program, *words = shlex.split(command)
    assert program == 'dsnet-mm'
    return dsnet_mm_ends(*words)


def documented(*parts):
    """Return the one command of the page that has all ``parts``."""
    (line,) = (line for line in LINES if all(part in line for part in parts))
    return line


def test_convert_and_check(place, capsys):
    assert type_in(documented('convert-data')) == 0
    assert "  data_root = 'data/own/'\n" in capsys.readouterr().out  # as the configs have it
    assert type_in(documented('check-data', '--draw')) == 0
    output = capsys.readouterr().out
    assert 'data/own/annotations/train.json: no problems' in output
    images = json.loads((place / 'data/own/annotations/train.json').read_text())['images']
    assert len(list((place / 'work_dirs/own_pictures').iterdir())) == len(images)
    check_config = documented('check-data', '--config')
    for command in (check_config, check_config.replace('train.json', 'val.json')):
        assert type_in(command) == 0


@pytest.mark.slow
def test_train_and_test(place):
    assert type_in(documented('convert-data')) == 0
    (place / 'data/own/annotations/val.json').rename(place / 'data/own/annotations/test.json')
    shutil.copy('data/own/annotations/train.json', 'data/own/annotations/val.json')
    printed = []
    for parts in (('train ',), ('test ', '--show-dir'), ('test ', '--ann')):
        _, *words = shlex.split(documented(*parts).replace('epoch_8', 'epoch_1'))
        done = run_command(*words, '--cfg-options', *SMALL, cwd=place)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout + done.stderr)
    assert (place / 'work_dirs/retinanet_dsnet_s_finetune/epoch_1.pth').exists()
    assert list((place / 'work_dirs').rglob('own_found/*.jpg'))
    counts = [re.findall(r'Epoch\((?:val|test)\).*\[\d+/(\d+)\]', text)[-1] for text in printed]
    sizes = [len(read_json(f'data/own/annotations/{split}.json')['images']) for split in SPLITS]
    assert counts == [str(size) for size in sizes]
    assert all(re.search(r'\| category +\| mAP ', text) for text in printed)


def test_detect(place, capsys):
    """Run an untrained small backbone on small images instead of the config's."""
    config = 'finetune/retinanet_dsnet_s_finetune'
    (place / 'configs').unlink()
    (place / 'configs/finetune').mkdir(parents=True)
    _, checkpoint = make_detector(place / 'configs', config, 'dict(score_thr=0, max_per_img=2)')
    (place / 'work_dirs/retinanet_dsnet_s_finetune').mkdir(parents=True)
    checkpoint.rename(place / 'work_dirs/retinanet_dsnet_s_finetune/epoch_8.pth')
    assert type_in(documented('predict')) == 0
    output = capsys.readouterr().out
    found = json.loads((place / 'work_dirs/own_predictions/predictions.json').read_text())
    names = sorted(path.name for path in (place / 'data/own/JPEGImages').iterdir())
    assert f'{len(found["annotations"])} objects in {len(names)} images' in output
    assert [image['file_name'] for image in found['images']] == [f'JPEGImages/{n}' for n in names]
    drawn = place / 'work_dirs/own_predictions/pictures/JPEGImages'
    assert sorted(path.name for path in drawn.iterdir()) == names


def test_configs_that_can_be_bases(tmp_path):
    path = tmp_path / 'own.py'
    init_cfgs = {}
    for base in ('retinanet_dsnet_t_fpn_1x_coco', 'compare/retinanet_dsnet_t_fpn_shapes'):
        path.write_text(
            f'_base_ = "{ROOT}/configs/{base}.py"\n'
            'model = dict(backbone=dict(init_cfg=dict(checkpoint="own.pth")))'
        )
        init_cfgs[base] = load_config(str(path)).model.backbone.init_cfg
    coco, compare = init_cfgs.values()
    assert coco == dict(type='Pretrained', checkpoint='own.pth')
    assert 'type' not in compare
    path.write_text(path.read_text().replace(base, 'demo/retinanet_dsnet_mini_shapes'))
    with pytest.raises(UserError, match='own.py cannot be read as a config: init_cfg='):
        load_config(str(path))
    for words in ('`_coco.py`', '`configs/demo`', '`configs/compare`', 'no `init_cfg`'):
        assert words in TEXT


@pytest.mark.parametrize('name', ['retinanet_dsnet_s_finetune', 'mask_rcnn_dsnet_s_finetune'])
def test_three_lines_change_a_config(tmp_path, name):
    text = (FINETUNE / f'{name}.py').read_text()
    block, *_ = blocks(TEXT, 'python')
    lines = [line.split(' = ')[0] for line in block.splitlines()]
    assert lines == ['data_root', 'classes', 'weights']
    for line in block.splitlines():
        assert line in text
    text = text.replace("'../", f"'{ROOT}/configs/")
    text = re.sub('^data_root = .*$', "data_root = '/data/cats/'", text, flags=re.M)
    text = re.sub('^classes = .*$', "classes = ('cat',)", text, flags=re.M)
    text = re.sub('^weights = .*$', "weights = 'coco.pth'", text, flags=re.M)
    (tmp_path / 'own.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'own.py')
    heads = cfg.model.get('roi_head', cfg.model)
    assert heads.bbox_head.num_classes == 1
    assert heads.get('mask_head', heads.bbox_head).num_classes == 1
    assert cfg.load_from == cfg.model.backbone.init_cfg.checkpoint == 'coco.pth'
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == ('cat',)
        assert dataset.data_root == '/data/cats/'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.ann_file == '/data/cats/annotations/val.json'
    coco = Config.fromfile(ROOT / 'configs' / f'{name.replace("finetune", "fpn_1x_coco")}.py')
    assert cfg.optim_wrapper.optimizer.lr < coco.optim_wrapper.optimizer.lr
    assert cfg.train_cfg.max_epochs < coco.train_cfg.max_epochs


@pytest.mark.parametrize('detector', ['retinanet', 'mask_rcnn'])
def test_the_small_configs_match_the_demo(tmp_path, detector):
    """Check the three lines of the configs, and compare the weights with those of the demo."""
    text = (FINETUNE / f'{detector}_dsnet_mini_finetune.py').read_text()
    block, *_ = blocks(TEXT, 'python')
    for line in block.splitlines()[:2]:
        assert line in text
    text = text.replace("'../", f"'{ROOT}/configs/").replace("'data/own/'", "'/data/cats/'")
    text = re.sub('^classes = .*$', "classes = ('cat', 'dog')", text, flags=re.M)
    (tmp_path / 'own.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'own.py')
    assert cfg.load_from == cfg.model.backbone.init_cfg.checkpoint == 'work_dirs/demo/epoch_10.pth'
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == ('cat', 'dog')
        assert dataset.data_root == '/data/cats/'
        (resize,) = [step for step in dataset.pipeline if step.type == 'Resize']
        assert resize.scale == cfg.image_scale == (256, 256)
        assert ('RandomFlip' in [step.type for step in dataset.pipeline]) == (split == 'train')
    assert cfg.test_evaluator.ann_file == '/data/cats/annotations/val.json'

    register_all_modules()
    demo = Config.fromfile(ROOT / 'configs/demo/retinanet_dsnet_mini_shapes.py')
    assert f'epoch_{demo.max_epochs}.pth' in cfg.load_from
    shapes = []
    for model in (demo.model, cfg.model):
        model.backbone.init_cfg = None
        state = MODELS.build(model).state_dict()
        shapes.append({name: tensor.shape for name, tensor in state.items()})
    other = {name for name in shapes[1] if shapes[0].get(name) != shapes[1][name]}
    if detector == 'retinanet':
        assert shapes[0].keys() == shapes[1].keys()
        assert other == {'bbox_head.retina_cls.weight', 'bbox_head.retina_cls.bias'}
    else:
        parts = {name.removeprefix('backbone.').partition('.')[0] for name in other}
        assert parts == {'out_norms', 'rpn_head', 'roi_head'}


@pytest.mark.parametrize('path', sorted(FINETUNE.glob('*.py')), ids=lambda path: path.stem)
def test_one_line_switches_the_ap_of_each_class(tmp_path, path):
    for state in (True, False):
        text = path.read_text().replace('classwise = True', f'classwise = {state}')
        (tmp_path / f'{state}.py').write_text(text.replace("'../", f"'{ROOT}/configs/"))
        cfg = Config.fromfile(tmp_path / f'{state}.py')
        assert cfg.val_evaluator.classwise is cfg.test_evaluator.classwise is state
    assert 'classwise' in inspect.signature(CocoMetric).parameters
    assert '`classwise = False`' in TEXT


def test_options_of_the_page_exist():
    typed = re.findall(r'^\| `(\S+=\S+)` \|', TEXT, re.M)
    options = read_settings(typed)
    assert len(options) == 4
    cfg = load_config(str(FINETUNE / 'retinanet_dsnet_s_finetune.py'), cfg_options=options)
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert hook.save_best == [f'{CocoMetric.default_prefix}/bbox_mAP']
    assert hook.max_keep_ckpts == 3
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end == 20
    assert not cfg.train_dataloader.persistent_workers  # which PyTorch refuses without workers
    (name,) = cfg.randomness.keys()
    assert name in inspect.signature(set_random_seed).parameters


@pytest.mark.parametrize('name', ['retinanet_dsnet_s_finetune', 'mask_rcnn_dsnet_s_finetune'])
def test_another_model_and_image_size(tmp_path, name):
    base, size = blocks(TEXT, 'python')[1:3]
    text = (FINETUNE / f'{name}.py').read_text()
    base = base.replace('retinanet', name.split('_dsnet')[0]).replace("'../", f"'{ROOT}/configs/")
    (tmp_path / 'own.py').write_text(re.sub('^_base_ = .*$', base.strip(), text, flags=re.M) + size)
    cfg = Config.fromfile(tmp_path / 'own.py')
    assert cfg.model.backbone.arch == 'tiny'
    for split in ('train', 'val', 'test'):
        pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
        (resize,) = [step for step in pipeline if step.type == 'Resize']
        assert resize.scale == (640, 480)
        assert ('RandomFlip' in [step.type for step in pipeline]) == (split == 'train')


@pytest.mark.parametrize(
    ('name', 'way'),
    [
        ('retinanet_dsnet_s_finetune', 'dsnet-mm weights small --from FILE'),
        ('retinanet_dsnet_mini_finetune', 'run `dsnet-mm demo`, which trains it, or train from'),
        ('mask_rcnn_dsnet_mini_finetune', 'run `dsnet-mm demo`, which trains it, or train from'),
    ],
)
def test_training_without_weights(monkeypatch, tmp_path, name, way):
    """Check that the options of the message suffice, and that the page lists them."""
    monkeypatch.chdir(tmp_path)
    given = {}
    for number in (3, 1):  # all at once; the last one when it was forgotten
        cfg = load_config(str(FINETUNE / f'{name}.py'), cfg_options=given)
        with pytest.raises(UserError, match=way.split(', or')[0]) as error:
            check_initial_weights(cfg)
        assert number == 1 or way in str(error.value)
        options = str(error.value).split(' --cfg-options ')[1].split()
        assert len(options) == number
        assert all(f'`{option}`' in TEXT for option in options)
        assert options[-1] == 'load_from=None'
        given = read_settings(options[:-1])
    cfg.load_from = None
    check_initial_weights(cfg)


def test_weights_that_a_model_leaves_unused_are_counted():
    """Load the weights of a classifier, a backbone, and other files by load_from."""
    register_all_modules()
    cfg = Config.fromfile(FINETUNE / 'retinanet_dsnet_s_finetune.py')
    cfg.model.backbone.arch = dict(
        embed_dims=(32, 64, 64, 64), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=1
    )
    cfg.model.neck.in_channels = [32, 64, 64, 64]
    model = MODELS.build(cfg.model)
    state = model.state_dict()
    backbone = {name: t for name, t in state.items() if name.startswith('backbone.')}
    alone = {name.removeprefix('backbone.'): tensor for name, tensor in backbone.items()}
    count = f'sets {len(backbone)} of {len(backbone)} tensors of backbone, 0 of '
    for weights, unused in (
        ({**backbone, 'head.fc.weight': torch.ones(1)}, '0 with another shape and 1 with'),
        (alone, 'none'),
    ):
        use = LoadFrom.of(model, weights, cfg)
        assert use.only_repeats_backbone
        assert f'{cfg.load_from} {count}' in str(use)
        assert f'Unused tensors of the file: {unused}' in str(use)
    whole = LoadFrom.of(model, state, cfg)
    assert not whole.only_repeats_backbone
    assert not whole.is_partial
    misshapen = {**state, 'neck.fpn_convs.0.conv.weight': torch.ones(1)}
    use = LoadFrom.of(model, misshapen, cfg)
    assert use.is_partial
    assert '1 with another shape and 0 with' in str(use)
    cfg.load_from = 'other.pth'
    use = LoadFrom.of(model, backbone, cfg)
    assert not use.only_repeats_backbone
    assert str(use).startswith(f'other.pth {count}')
    with pytest.raises(
        UserError, match='no tensor of it fits .* model.backbone.init_cfg='
    ) as error:
        LoadFrom.of(model, alone, cfg)
    assert '\n' not in str(error.value)


def test_missing_backbone_weights_with_load_from(tmp_path):
    cfg = Config(dict(model=dict(backbone=dict(init_cfg=dict(checkpoint='none.pth')))))
    cfg.load_from = str(tmp_path / 'whole.pth')
    (tmp_path / 'whole.pth').touch()
    with pytest.raises(UserError, match='leave the backbone to load_from with .*init_cfg=None$'):
        check_initial_weights(cfg)


def test_weights_of_a_detector(tmp_path):
    """Load the whole backbone, and the tensors of neck and head that fit."""
    register_all_modules()
    coco = Config.fromfile(ROOT / 'configs/retinanet_dsnet_s_fpn_1x_coco.py').model
    own = Config.fromfile(FINETUNE / 'retinanet_dsnet_s_finetune.py').model
    arch = dict(
        embed_dims=(32, 64, 64, 64), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=4
    )
    for model in (coco, own):
        model.backbone.arch = arch
        model.neck.in_channels = list(arch['embed_dims'])
    coco.backbone.init_cfg = None
    trained = MODELS.build(coco)
    path = str(tmp_path / 'coco.pth')
    torch.save(dict(state_dict=trained.state_dict()), path)
    own.backbone.init_cfg.checkpoint = path
    model = MODELS.build(own)
    model.init_weights()
    states = trained.state_dict(), model.state_dict()
    taken = {key for key in states[1] if torch.equal(states[0][key], states[1][key])}
    assert {key for key in states[1] if key.startswith('backbone.')} <= taken
    assert 'neck.fpn_convs.0.conv.weight' not in taken
    load_checkpoint(model, path)
    states = trained.state_dict(), model.state_dict()
    left = {
        key for key in states[1]
        if states[0][key].shape != states[1][key].shape
        or not torch.equal(states[0][key], states[1][key])
    }  # fmt: skip
    assert left == {'bbox_head.retina_cls.weight', 'bbox_head.retina_cls.bias'}


# Symptoms of a dataset that does not fit


@pytest.fixture
def exact():
    """Return annotations of 4 images, an object of each class, and perfect predictions."""
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(16):
        width, height = rng.uniform(35, 90, 2)
        annotations.append(
            dict(
                id=number + 1, image_id=number // 4 + 1, category_id=number % 4 + 1, iscrowd=0,
                bbox=[*rng.uniform(0, 80, 2), width, height], area=width * height,
            )
        )  # fmt: skip
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=200, height=200) for i in range(1, 5)],
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)],
    )
    boxes = torch.tensor([annotation['bbox'] for annotation in annotations])
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.arange(16) % 4
    predictions = [
        dict(
            img_id=i + 1, ori_shape=(200, 200),
            pred_instances=dict(
                bboxes=boxes[4 * i : 4 * i + 4], labels=labels[:4], scores=torch.full((4,), 0.9)
            ),
        )
        for i in range(4)
    ]  # fmt: skip
    return content, predictions


def evaluate(tmp_path, content, predictions, classes=CLASSES, **settings):
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(path), metric='bbox', **settings)
    metric.dataset_meta = dict(classes=classes)
    metric.process({}, predictions)
    return metric.evaluate(4)


def test_ap(tmp_path, exact):
    content, predictions = exact
    found = evaluate(tmp_path, content, predictions)
    assert found['coco/bbox_mAP'] == 1
    assert found['coco/bbox_mAP_s'] == found['coco/bbox_mAP_l'] == -1
    assert evaluate(tmp_path, content, predictions, CLASSES[::-1])['coco/bbox_mAP'] == 1
    other = dict(content, categories=content['categories'][::-1])
    assert evaluate(tmp_path, other, predictions)['coco/bbox_mAP'] < 0.05
    empty = dict(content, annotations=[])
    assert evaluate(tmp_path, empty, predictions)['coco/bbox_mAP'] == -1
    from_0 = [dict(item, id=item['id'] - 1) for item in content['annotations']]
    found = evaluate(tmp_path, dict(content, annotations=from_0), predictions)
    assert 0.8 < found['coco/bbox_mAP'] < 0.95


def test_ap_of_one_class(tmp_path, exact):
    """A class without objects has no AP; `save_best=auto` follows the first metric."""
    content, predictions = exact
    annotations = [item for item in content['annotations'] if item['category_id'] != 4]
    found = evaluate(tmp_path, dict(content, annotations=annotations), predictions, classwise=True)
    first, *_ = found
    assert first == 'coco/circle_precision'
    assert found[first] == 1
    assert np.isnan(found['coco/triangle_precision'])


def test_crashes_of_mmdet(tmp_path, exact):
    content, predictions = exact
    with pytest.raises(IndexError, match='list index out of range'):
        evaluate(tmp_path, dict(content, categories=content['categories'][1:]), predictions)
    with pytest.raises(ValueError, match='need at least one array to concatenate'):
        CocoDataset(
            ann_file=str(tmp_path / 'val.json'), data_prefix=dict(img=''), pipeline=[],
            metainfo=dict(classes=('cat',)), filter_cfg=dict(filter_empty_gt=True),
        )  # fmt: skip


def test_mmdet_plots_logs():
    """The script exists where the page looks for it; seaborn is not a dependency here."""
    where, *plots = (line for line in LINES if 'MMDET' in line)
    (python,) = re.findall(r'\$\((.*)\)', where)
    folder = run_process(*shlex.split(python)[1:]).strip().splitlines()[-1]
    assert len(plots) == 2
    for _, script, *arguments in map(shlex.split, plots):
        source = Path(script.replace('$MMDET', folder)).read_text()
        for option in arguments:
            assert not option.startswith('--') or f"'{option}'" in source
        assert f"'{arguments[0]}'" in source


def test_documented_settings_of_tensorboard(tmp_path):
    (block,) = (part for part in blocks(TEXT, 'python') if 'Tensorboard' in part)
    path = tmp_path / 'config.py'
    coco = ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py'
    path.write_text(f'_base_ = {str(coco)!r}\n{block}')
    backends = Config.fromfile(path).visualizer.vis_backends
    assert [backend.type for backend in backends] == ['LocalVisBackend', 'TensorboardVisBackend']
    assert all(VISBACKENDS.get(backend.type) for backend in backends)
    Visualizer(vis_backends=backends, save_dir=str(tmp_path)).add_scalar('loss', 1.0, 1)
    assert list(tmp_path.rglob('events.out.tfevents*'))


def test_quoted_titles_of_the_checks():
    """Check that the titles that the page quotes exist."""
    (table,) = re.findall(r'\| symptom .*', TEXT, re.S)
    quoted = {
        word for row in table.splitlines()[2:] for word in re.findall('`(.+?)`', row.split('|')[3])
    } - {'dsnet-mm train'}
    source = ''.join(path.read_text() for path in (ROOT / 'dsnet_mm/data/checking').glob('*.py'))
    assert len(quoted) == 8
    for word in quoted:
        assert f"'{word}'" in source or any(word in titles for _, *titles in ENTRY_FAULTS.values())
