"""Test `--precision bf16`. PyTorch emulates missing instructions, so the results can be tested."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.detectors import BaseDetector
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode

from dsnet_mm.engine import half_precision
from dsnet_mm.engine.config import load_config
from dsnet_mm.engine.evaluate import evaluate
from dsnet_mm.engine.half_precision import check_bfloat16, use_half_precision
from dsnet_mm.engine.predict import Predictor
from dsnet_mm.errors import UserError
from helpers.commands import dsnet_mm_ends
from helpers.detectors import make_detector
from helpers.paths import ROOT

DEMO = ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py'
PICTURE = ROOT / 'docs' / 'images' / 'demo.jpg'
REFUSED = (
    'error: --precision bf16 cannot be used, because this processor has no instructions for '
    'bfloat16 (AVX-512 BF16, AMX, BF16 of ARM, or those of a GPU); omit --precision'
)


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Return a function that sets the instruction sets of this machine, which gets no GPU."""
    path = tmp_path / 'cpuinfo'
    monkeypatch.setattr(half_precision, 'CPUINFO', path)
    monkeypatch.setattr(half_precision, 'get_device', lambda: 'cpu')
    return lambda flags: path.write_text(f'processor : 0\nflags : fpu {flags} avx2\n')


def make_retinanet(tmp_path_factory, backbone: str):
    return make_detector(
        tmp_path_factory.mktemp('retinanet'),
        f'retinanet_{backbone}_fpn_1x_coco',
        'dict(score_thr=0.0, max_per_img=10)',
    )


@pytest.fixture(scope='module')
def retinanet(tmp_path_factory):
    return make_retinanet(tmp_path_factory, 'dsnet_t')


@pytest.fixture(scope='module')
def glnet(tmp_path_factory):
    return make_retinanet(tmp_path_factory, 'glnet_4g')


def detector(retinanet, precision: str = 'fp32') -> BaseDetector:
    config, checkpoint = map(str, retinanet)
    predictor = Predictor(load_config(config), checkpoint, device='cpu', precision=precision)
    return predictor.inferencer.model


@pytest.mark.parametrize(
    ('command', 'otherwise'),
    [
        (['test', DEMO, 'none.pth', '--data-root', 'none'], 'instances_val2017.json is missing'),
        (['predict', DEMO, 'none.pth', PICTURE, '--device', 'cpu'], 'none.pth is not a file'),
    ],
)
def test_a_processor_without_instructions_is_refused_at_once(command, otherwise, processor):
    processor('avx512f amx_tile')
    assert dsnet_mm_ends(*command, '--precision', 'bf16') == REFUSED
    for more in ([], ['--precision', 'fp32']):
        assert otherwise in dsnet_mm_ends(*command, *more)


def test_processors_and_gpus_with_instructions_are_accepted(processor, monkeypatch):
    with pytest.raises(UserError, match='this processor does not list its instructions in'):
        check_bfloat16()  # there is no such file outside of Linux
    for flags in ('avx512_bf16', 'amx_bf16', 'bf16'):
        processor(flags)
        check_bfloat16()
    with pytest.raises(UserError, match='the device mps has no instructions'):
        check_bfloat16('mps')
    generation = {'cuda:0': SimpleNamespace(major=7), 'cuda:1': SimpleNamespace(major=8)}
    monkeypatch.setattr(torch.cuda, 'get_device_properties', generation.get)
    check_bfloat16('cuda:1')
    with pytest.raises(UserError, match='this GPU has no instructions'):
        check_bfloat16('cuda:0')


def test_only_products_of_backbone_and_neck_change_their_type(retinanet, processor):
    processor('avx512_bf16')
    plain, half = detector(retinanet), detector(retinanet, 'bf16')
    assert plain.state_dict().keys() == half.state_dict().keys()
    assert not any('forward' in vars(module) for module in plain.modules())
    for name, module in half.named_modules():
        product = isinstance(module, (_ConvNd, nn.Linear))
        in_half = product and name.startswith(('backbone', 'neck'))
        for tensor in module.state_dict().values() if not [*module.children()] else ():
            if tensor.is_floating_point():
                assert tensor.dtype is (torch.bfloat16 if in_half else torch.float32), name
    for tensor in plain.state_dict().values():
        assert tensor.dtype is not torch.bfloat16


class Casts(TorchDispatchMode):
    """Collect the shapes of float32 tensors that are cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run an operator."""
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and out.dtype is torch.bfloat16:
            self.shapes.append(out.shape)
        return out


@pytest.mark.parametrize('model', ['retinanet', 'glnet'])
def test_features_are_those_of_autocast_without_casts_of_weights(model, request):
    plain = detector(request.getfixturevalue(model))
    half = deepcopy(plain)
    use_half_precision(half, torch.bfloat16)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        expected = plain.extract_feat(image)
    with torch.no_grad(), Casts() as casts:
        features = half.extract_feat(image)
        maps = half.backbone(image)
    for feature, wanted in zip(features, expected, strict=True):
        assert (feature.dtype, wanted.dtype) == (torch.float32, torch.bfloat16)
        torch.testing.assert_close(feature, wanted.float(), rtol=1e-2, atol=1e-2)
    assert set(casts.shapes) <= {image.shape, *(x.shape for x in maps)}
    assert casts.shapes.count(image.shape) == 2


def test_a_copy_computes_with_its_own_weights(retinanet):
    """As mmengine's EMAHook does."""
    model = detector(retinanet)
    use_half_precision(model, torch.bfloat16)
    copied = deepcopy(model)
    for parameter in copied.parameters():
        nn.init.zeros_(parameter)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert not any(x.any() for x in copied.extract_feat(image))
        assert all(x.any() for x in model.extract_feat(image))


def test_nested_outputs_become_float32():
    class Nested(nn.Conv2d):
        def forward(self, x):
            out = super().forward(x)
            return [[out, out > 0], dict(last=out, size=out.shape)]

    model = nn.Module()
    model.backbone = Nested(3, 4, 1)
    use_half_precision(model, torch.bfloat16)
    (first, mask), rest = model.backbone(torch.rand(1, 3, 8, 8))
    assert first.dtype is rest['last'].dtype is torch.float32
    assert mask.dtype is torch.bool
    assert rest['size'] == (1, 4, 8, 8)
    with pytest.raises(UserError, match='Conv2d has no backbone'):
        use_half_precision(nn.Conv2d(3, 3, 1), torch.bfloat16)


def test_evaluation_casts_the_loaded_weights(
    retinanet, shapes_root, tmp_path, processor, monkeypatch
):
    processor('avx512_bf16')
    models = []
    monkeypatch.setattr(
        'dsnet_mm.engine.evaluate.use_half_precision',
        lambda model, dtype: models.append(model) or use_half_precision(model, dtype),
    )
    options = {'test_dataloader.num_workers': 0}
    cfg = load_config(str(DEMO), str(tmp_path), options, str(shapes_root))
    cfg.model = load_config(str(retinanet[0])).model
    evaluate(cfg, str(retinanet[1]), precision='bf16')
    (model,) = models
    stored = torch.load(retinanet[1], weights_only=True)['state_dict']
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name].to(tensor.dtype)), name
    assert model.backbone.stages[0].patch_embed.proj.weight.dtype is torch.bfloat16
