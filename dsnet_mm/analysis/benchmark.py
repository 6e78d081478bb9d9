"""Measure time and memory of models, interleaved on one machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.testing import demo_mm_inputs
from mmengine.model import BaseModel

from dsnet_mm.engine.building import check_device
from dsnet_mm.engine.half_precision import use_half_precision
from dsnet_mm.errors import UserError

from .building import build_candidate
from .macs import count_model_macs, count_parameters
from .memory import peak_memory

NUM_OBJECTS = 8  # in each image of a training step
PRODUCT_SIZES = dict(cpu=2048, cuda=8192)  # rows and columns of the reference matrices

Work = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """Define the measured part and its input."""

    # 'backbone' or 'neck' for its forward pass, 'detector' for a prediction with decoding and NMS,
    # 'train' for the forward and backward pass of the detector's loss
    part: str = 'backbone'
    height: int = 800  # of the images in pixels
    width: int = 1344
    batch: int = 1  # images per run
    device: str = 'cpu'  # 'cpu', 'cuda' or 'cuda:N'
    # 'float32', 'float16' or 'bfloat16', in which backbone and neck compute, as with --precision of
    # `dsnet-mm test`; a training step runs under autocast, as in mmengine's AMP
    dtype: str = 'float32'
    channels_last: bool = False  # whether weights and images have the channels-last layout

    def __post_init__(self) -> None:
        check_device(self.device)


@dataclass(frozen=True)
class Spread:
    """Hold median and quartiles."""

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one value."""
        if len(values) == 1:
            return cls(*values, *values, *values)
        return cls(*statistics.quantiles(values, n=4, method='inclusive'))


@dataclass(frozen=True)
class Result:
    """Hold the measurements of one candidate in one setting."""

    name: str
    setting: Setting
    parameters: int  # number of parameters of the part
    macs: int | None  # executed multiply-accumulates of a run; None for a training step
    seconds: tuple[float, ...]  # time of each run
    product_rate: tuple[float, ...]  # MACs per second of a matrix product in each round
    # peak memory of a run beyond the model and its input; None if not measured
    peak_bytes: int | None

    @property
    def throughput(self) -> float:
        """Return the images per second."""
        return self.setting.batch / Spread.of(self.seconds).median

    @property
    def against_product(self) -> Spread | None:
        """Return the time relative to as many MACs in a matrix product, paired by round."""
        if self.macs is None:
            return None
        pairs = zip(self.seconds, self.product_rate, strict=True)
        return Spread.of([seconds * rate / self.macs for seconds, rate in pairs])

    def time_against(self, other: Result) -> Spread:
        """Return the time relative to another candidate, paired by round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return Spread.of([mine / others for mine, others in pairs])


def benchmark(
    names: Sequence[str],
    settings: Sequence[Setting],
    rounds: int = 5,
    warmup: int = 2,
    memory: bool = True,
    compiled: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> Iterator[list[Result]]:
    """Measure candidates in turns, so that disturbances affect all candidates alike.

    Args:
        names: Candidates, see :func:`~.building.build_candidate`.
        settings: Settings with the same part, device, dtype and layout.
        rounds: Number of timed runs of each candidate.
        warmup: Number of untimed runs of each candidate.
        memory: Whether to measure peak memory, in a separate run.
        compiled: Whether to measure each candidate also with its backbone and neck compiled by
            torch.compile during the warm-up.
        report: Called with a description of the next step.

    Yields:
        The results of one setting in the order of ``names``, each followed by its compiled variant.

    Raises:
        UserError: If a candidate cannot be built, or cannot be compiled for lack of a warm-up.
    """
    if compiled and warmup < 1:
        raise UserError('models are compiled in the warm-up; pass --warmup 1 or more')
    models = {}
    for name in names:
        report(f'building {name}')
        models[name] = prepare(build_candidate(name), settings[0])
        if compiled:
            copied = models[f'{name}, compiled'] = deepcopy(models[name])
            copied.backbone.compile()
            if getattr(copied, 'neck', None):
                copied.neck.compile()
    for setting in settings:
        yield _measure(models, setting, rounds, warmup, memory, report)


def prepare(model: BaseModel, setting: Setting) -> BaseModel:
    """Move a model to the device, type and mode of ``setting``.

    Raises:
        UserError: If the part needs a detector, and the model is none.
    """
    if setting.part in ('detector', 'train') and not isinstance(model, BaseDetector):
        raise UserError(
            f'{type(model).__name__} is not a detector, so only its backbone can be measured; run '
            '`dsnet-mm benchmark` with --part backbone'
        )
    # some backbones of mmdet return None from train() and eval()
    model.train(setting.part == 'train')
    model.to(setting.device)
    if setting.part != 'train' and setting.dtype != 'float32':
        use_half_precision(model, getattr(torch, setting.dtype))
    if setting.channels_last:
        model.to(memory_format=torch.channels_last)
    return model


def workload(model: BaseModel, setting: Setting) -> Work:
    """Return a function without arguments that runs a prepared model once."""
    if setting.part in ('backbone', 'neck'):
        image = torch.randn(setting.batch, 3, setting.height, setting.width)
        image = image.to(setting.device)
        if setting.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        if setting.part == 'backbone':
            return torch.no_grad()(lambda: model.backbone(image))
        with torch.no_grad():
            maps = model.backbone(image)
        neck = getattr(model, 'neck', None) or torch.nn.Identity()
        return torch.no_grad()(lambda: neck(maps))

    training = setting.part == 'train'
    data = demo_mm_inputs(
        setting.batch,
        [[3, setting.height, setting.width]] * setting.batch,
        num_items=[NUM_OBJECTS] * setting.batch,
        num_classes=80,
        with_mask=getattr(model, 'with_mask', False) or hasattr(model, 'panoptic_head'),
    )
    data = model.data_preprocessor(data, training)
    if setting.channels_last:
        data['inputs'] = data['inputs'].contiguous(memory_format=torch.channels_last)
    device, dtype = torch.device(setting.device).type, getattr(torch, setting.dtype)

    @torch.no_grad()
    def predict() -> None:
        model(**data, mode='predict')

    def train() -> None:
        with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
            losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
        model.zero_grad(set_to_none=True)

    return train if training else predict


def _measure(
    models: dict[str, BaseModel],
    setting: Setting,
    rounds: int,
    warmup: int,
    memory: bool,
    report: Callable[[str], object],
) -> list[Result]:
    works = {name: workload(model, setting) for name, model in models.items()}
    peaks = dict.fromkeys(works)
    for name, work in works.items():
        report(f'warming up {name}')
        for _ in range(warmup):
            work()
        if memory:
            peaks[name] = peak_memory(work, setting.device)

    size = PRODUCT_SIZES[torch.device(setting.device).type]
    factors = torch.randn(2, size, size, device=setting.device).to(getattr(torch, setting.dtype))
    product = partial(torch.mm, *factors)  # a reference for the speed of the machine
    product()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    rates = []
    for number in range(rounds):
        report(f'round {number + 1} of {rounds}')
        rates.append(size**3 / _time(product, setting.device))
        # reverse every other round, so that no candidate always follows the same one
        for name in list(works)[:: -1 if number % 2 else 1]:
            seconds[name].append(_time(works[name], setting.device))
    return [
        Result(name, setting, *_counts(model, setting), tuple(times), tuple(rates), peaks[name])
        for (name, model), times in zip(models.items(), seconds.values(), strict=True)
    ]


def _counts(model: BaseModel, setting: Setting) -> tuple[int, int | None]:
    """Return the parameters of the part, and the MACs of a run."""
    parameters = count_parameters(model)
    if setting.part == 'train':
        return parameters.whole, None
    macs = count_model_macs(model, setting.height, setting.width)
    part = 'whole' if setting.part == 'detector' else setting.part
    return getattr(parameters, part), getattr(macs, part) * setting.batch


def _time(work: Work, device: str) -> float:
    """Time one run, in seconds."""
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
