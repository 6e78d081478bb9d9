"""Try DS-Net in the detectors of the installed mmdet; run ``python docs/try_detectors.py``.

The command takes one config per family and structure, trains each for one step on random weights
and synthetic images, predicts, and writes a table into ``docs/other_detectors.md``.
"""

from __future__ import annotations

import copy
import datetime
import importlib
import json
import logging
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from dsnet_mm.analysis import tables
from dsnet_mm.models import DSNet

TARGET = Path(__file__).resolve().parent / 'other_detectors.md'
CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
RESNET = re.compile(r'(^|[-_])r(18|50|101)([-_.]|$)')
VERSIONS = ('torch', 'mmcv', 'mmengine', 'mmdet')
C4_CHANNELS = 1024  # that a head with `shared_head`, a stage of a ResNet, needs
IMAGE_SIZE = 64
LARGER = dict(DDOD=384)  # with deformable convolutions on the smallest map
FEW = dict(max_per_img=50, nms_pre=200, num=16, num_queries=50, num_proposals=50, num_classes=80)
NORMALIZE = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], pad_size_divisor=32)


# Structure: which configs to try


@dataclass
class Candidate:
    """A config of mmdet, and the folders of configs whose detector differs in nothing."""

    path: str  # below CONFIGS
    model: dict[str, Any]
    same: set[str] = field(default_factory=set)

    @property
    def family(self) -> str:
        """Return the folder of the config."""
        return self.path.split('/')[0]

    @property
    def is_typical(self) -> bool:
        """Return whether the config begins with the folder: ``mask_rcnn/mask-rcnn_r50...``."""
        return self.path.replace('-', '_').startswith(f'{self.family}/{self.family}')


def read_model(path: str) -> dict[str, Any]:
    """Return the detector of a config of mmdet: of trackers, the detector inside."""
    model = Config.fromfile(CONFIGS / path).to_dict().get('model') or {}
    if inside := model.get('detector'):
        model = dict(inside, data_preprocessor=dict(type='DetDataPreprocessor', **NORMALIZE))
    if 'teacher_config' in model:  # a path that begins at a clone of mmdet
        teacher = model['teacher_config'].removeprefix('configs/')
        model['teacher_config'] = dict(model=read_model(teacher))
    lighten(model)
    return model


def lighten(model: dict[str, Any]) -> None:
    """Remove what downloads weights or enlarges images, and most regions and classes, in place."""
    for part in walk(model):
        if isinstance(part.get('init_cfg'), dict) and part['init_cfg'].get('type') == 'Pretrained':
            del part['init_cfg']
        part.pop('batch_augments', None)
        part.pop('teacher_ckpt', None)
        for key, most in FEW.items():
            if isinstance(part.get(key), int):
                part[key] = min(part[key], most)


def walk(part: Any) -> Iterator[dict[str, Any]]:
    """Yield all dicts of a config."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for item in part:
            yield from walk(item)


def is_resnet(path: Path) -> bool:
    """Return whether the name of a config has a ResNet in it."""
    return path.parent.name != '_base_' and bool(RESNET.search(path.name))


def candidates() -> list[Candidate]:
    """Return the first config with a ResNet of each family, detector and kind of neck."""
    found: dict[str, Candidate] = {}
    paths = sorted(CONFIGS.glob('*/*.py'), key=lambda path: (len(path.name), path))
    kinds = set()
    for path in sorted(paths, key=lambda path: path.parent.name):
        if not is_resnet(path):
            continue
        try:
            model = read_model(str(path.relative_to(CONFIGS)))
        except FileNotFoundError:  # some configs of mmdet have a base that mmdet lacks
            continue
        backbone = model.get('backbone') or {}
        if backbone.get('type') != 'ResNet':
            continue
        backbone.setdefault('out_indices', (0, 1, 2, 3))
        necks = [neck['type'] for neck in as_list(model.get('neck'))]
        kind = path.parent.name, model['type'], tuple(necks), len(backbone['out_indices'])
        if kind in kinds:
            continue
        kinds.add(kind)
        candidate = Candidate(str(path.relative_to(CONFIGS)), model)
        known = found.setdefault(fingerprint(model), candidate)
        known.same.add(candidate.family)
        if not known.is_typical and candidate.is_typical:
            known.path, known.model = candidate.path, candidate.model
    return list(found.values())


def fingerprint(model: dict[str, Any]) -> str:
    """Return what two detectors have in common that differ in data and backbone only."""
    model = copy.deepcopy(model)
    put_dsnet(model, 'tiny')
    model.pop('data_preprocessor', None)
    for part in walk(model):
        part.pop('num_classes', None)
    return json.dumps(model, sort_keys=True, default=str)


def as_list(value: Any) -> list[Any]:
    """Return ``value`` as a list, which is empty for None."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


# The swap


def put_dsnet(model: dict[str, Any], arch: str | dict) -> None:
    """Replace the ResNet of a detector by DS-Net, in place."""
    resnet = model['backbone']
    out_indices = tuple(resnet.get('out_indices', (0, 1, 2, 3)))
    widths = DSNet.find_arch(arch)['embed_dims']
    first = 64 if resnet['depth'] < 50 else 256
    changes = {first * 2**i: widths[i] for i in range(4)}
    model['backbone'] = dict(type='DSNet', arch=arch, out_indices=out_indices)
    if model.get('neck'):
        neck = as_list(model['neck'])[0]
        neck['in_channels'] = change(neck['in_channels'], changes)
    elif 'shared_head' in model.get('roi_head', {}):
        model['neck'] = dict(
            type='ChannelMapper',
            in_channels=[widths[i] for i in out_indices],
            out_channels=C4_CHANNELS,
            kernel_size=1,
            num_outs=1,
            act_cfg=None,
        )
    else:
        put_into_heads(model, changes, 4 * 2 ** out_indices[-1])


def put_into_heads(model: dict[str, Any], changes: dict[int, int], stride: int) -> None:
    """Change the channels, and of one map the stride, that heads without a neck read."""
    for name, head in model.items():
        if not name.endswith('head'):
            continue
        if 'in_channels' in head:
            head['in_channels'] = change(head['in_channels'], changes)
        if 'anchor_generator' in head:  # of anchors that keep their size
            anchors = head['anchor_generator']
            anchors['scales'] = [x * anchors['strides'][0] // stride for x in anchors['scales']]
            anchors['strides'] = [stride]
        if 'bbox_roi_extractor' in head:
            extractor, box = head['bbox_roi_extractor'], head['bbox_head']
            extractor['out_channels'] = change(extractor['out_channels'], changes)
            extractor['featmap_strides'] = [stride]
            box['in_channels'] = change(box['in_channels'], changes)


def change(channels: int | list[int], changes: dict[int, int]) -> int | list[int]:
    """Replace a number of channels, or each of a list."""
    if isinstance(channels, int):
        return changes[channels]
    return [changes[width] for width in channels]


def put_dsfpn(model: dict[str, Any]) -> bool:
    """Replace mmdet's FPN by DS-FPN, in place; return whether the detector has one."""
    necks = [neck for neck in as_list(model.get('neck')) if neck['type'] == 'FPN']
    for neck in necks:
        neck['type'] = 'DSFPN'
    return bool(necks)


# The trial


def sample(size: int, proposals: bool) -> DetDataSample:
    """Return annotations of an image: a large, a medium and a small object, and their pixels.

    Args:
        size: Height and width in pixels.
        proposals: Whether to add proposals, which replace those of an RPN in predictions.
    """
    boxes = torch.tensor([[0.1, 0.1, 0.9, 0.8], [0.3, 0.4, 0.6, 0.7], [0.7, 0.1, 0.8, 0.2]]) * size
    masks = torch.zeros(len(boxes), size, size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.zeros(len(boxes), dtype=torch.long)
    result = DetDataSample(
        metainfo=dict(
            img_id=0,
            img_shape=(size, size),
            ori_shape=(size, size),
            batch_input_shape=(size, size),
            scale_factor=(1.0, 1.0),
            flip=False,
            flip_direction=None,
            border=[0, size, 0, size],  # of CenterNet
            text='thing .',  # of Grounding DINO
            custom_entities=False,
        )
    )
    result.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(boxes),
        labels=labels,
        masks=BitmapMasks(masks.numpy(), size, size),
        instances_ids=torch.arange(len(boxes)),
    )
    result.ignored_instances = InstanceData(
        bboxes=HorizontalBoxes(boxes[:0]), labels=labels[:0],
        masks=BitmapMasks(masks[:0].numpy(), size, size),
    )  # fmt: skip
    if proposals:
        result.proposals = InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)))
    result.gt_sem_seg = PixelData(sem_seg=masks[0][None].long())
    return result


def batch(detector: torch.nn.Module, images: int) -> dict[str, Any]:
    """Return images with annotations; for a detector in videos, clips of two frames."""
    name, generator = type(detector).__name__, torch.Generator().manual_seed(0)
    size, frames = LARGER.get(name, IMAGE_SIZE), (2,) if 'Video' in name else ()
    images = 1 if frames else images  # all that Mask2FormerVideo supports
    shape = (*frames, 3, size, size)
    inputs = [torch.randint(0, 256, shape, generator=generator).byte() for _ in range(images)]
    proposals = name == 'FastRCNN'
    samples = [sample(size, proposals) for _ in range(images)]
    if frames:
        roles = dict(key_frames_inds=[0], ref_frames_inds=[1])
        samples = [
            TrackDataSample(video_data_samples=[one, sample(size, proposals)], metainfo=roles)
            for one in samples
        ]
    return dict(inputs=inputs, data_samples=samples)


def build(model: dict[str, Any]) -> torch.nn.Module:
    """Build a detector."""
    register_all_modules()
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(copy.deepcopy(model)))


def train_step(detector: torch.nn.Module) -> list[str]:
    """Compute loss and gradients; return the parameters of backbone and neck that lack one."""
    detector.train()
    MessageHub.get_current_instance().update_info('epoch', 0)  # as a training does; TOOD reads it
    data = detector.data_preprocessor(batch(detector, 2), True)
    loss, _ = detector.parse_losses(detector(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss), f'the loss is {loss}'
    return [
        name
        for name, weight in detector.named_parameters()
        if name.startswith(('backbone.', 'neck.')) and weight.requires_grad
        if weight.grad is None or not weight.grad.isfinite().all()
    ]


def predict(detector: torch.nn.Module) -> None:
    """Predict on one image, and assert one prediction."""
    detector.eval()
    data = detector.data_preprocessor(batch(detector, 1), False)
    with torch.no_grad():
        predictions = detector(**data, mode='predict')
    assert len(predictions) == 1


@dataclass
class Result:
    """What became of a detector: '' for success, the reason of a failure, or None if not tried."""

    path: str
    same: list[str]
    dsnet: str
    dsfpn: str | None = None
    resnet: str | None = None  # the detector of mmdet as it is, tried if DS-Net or DS-FPN fails


def try_model(model: dict[str, Any]) -> str:
    """Train and predict with a detector; return why that fails, or an empty string."""
    try:
        detector = build(model)
        detector.init_weights()
        missing = train_step(detector)
        if missing:
            return f'no gradient for {len(missing)} parameters, such as {missing[0]}'
        predict(detector)
    except Exception as error:  # mmdet's detectors raise any error
        return reason(error)
    return ''


def reason(error: Exception) -> str:
    """Return why a detector fails, in a few words."""
    text = ' '.join(str(error).split())
    operator = re.match(r'(\w+?)(_impl)?: implementation for device cpu not found', text)
    if operator:
        return f'mmcv has no CPU operator {operator[1]}'
    short = textwrap.shorten(text, 80, placeholder=' ...')
    return f'{type(error).__name__}: {short}'.replace('|', '/')


def try_candidate(candidate: Candidate) -> Result:
    """Try a detector with DS-Net-T, then with DS-FPN, and if one fails, with its own ResNet."""
    model = copy.deepcopy(candidate.model)
    put_dsnet(model, 'tiny')
    result = Result(candidate.path, sorted(candidate.same - {candidate.family}), try_model(model))
    if put_dsfpn(model):
        result.dsfpn = try_model(model)
    if result.dsnet or result.dsfpn:
        result.resnet = try_model(candidate.model)
    return result


def table(results: list[Result]) -> str:
    """Return the counts and the table of the page."""
    with_fpn = [result for result in results if result.dsfpn is not None]
    failed = [result for result in results if result.resnet is not None]
    alike = sum(bool(result.resnet) for result in failed)
    versions = ', '.join(f'{name} {version_of(name)}' for name in VERSIONS)
    counts = (
        f'Of {len(results)} detectors, {sum(not result.dsnet for result in results)} work with '
        f'DS-Net-T. Of {len(with_fpn)} detectors with an FPN, '
        f'{sum(not result.dsfpn for result in with_fpn)} work with DS-FPN. Of the '
        f'{len(failed)} that fail, {alike} fail with their own ResNet too.'
    )
    rows = [
        [
            result.path.removesuffix('.py'),
            verdict(result.dsnet),
            verdict(result.dsfpn),
            remark(result),
        ]
        for result in results
    ]
    header = ['config of mmdet', 'DS-Net-T', 'with DS-FPN', 'remark']
    measured = f'Measured on {datetime.date.today()} on a CPU with {versions}.'
    return f'{counts}\n\n{tables.markdown(header, rows)}\n\n{measured}'


def version_of(package: str) -> str:
    """Return the version of an imported package, without the build."""
    return importlib.import_module(package).__version__.split('+')[0]


def verdict(why: str | None) -> str:
    """Return the word for a reason of a failure, which is empty for a success."""
    return '-' if why is None else 'no' if why else 'yes'


def remark(result: Result) -> str:
    """Return why a detector fails, and the folders with the same detector."""
    parts = []
    if result.resnet:
        parts.append(f'fails with ResNet too: {result.resnet}')
    elif result.resnet is not None:
        parts.append(f'works with ResNet: {result.dsnet or result.dsfpn}')
    if result.same:
        parts.append(f'same in {", ".join(result.same)}')
    return '; '.join(parts)


def main() -> None:
    """Try all candidates, and write the table."""
    results = []
    for candidate in candidates():
        results.append(try_candidate(candidate))
        print(results[-1], flush=True)
    tables.replace_block(TARGET, 'detector table', table(results))


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)  # mmengine logs the initialization of each parameter
    main()
