"""Measure time and memory of models, interleaved on one machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from mmdet.testing import demo_mm_inputs
from torch import nn

from dsnet_mm.errors import UserError, counted

from .building import build_candidate
from .macs import count_model_macs, count_parameters
from .memory import peak_memory

PARTS = ('backbone', 'detector', 'train')
DTYPES = ('float32', 'float16', 'bfloat16')
NUM_OBJECTS = 8  # in each image of a training step
PRODUCT_SIZES = dict(cpu=2048, cuda=8192)  # rows and columns of the reference matrices

Work = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """Define the measured part and its input.

    Attributes:
        part: 'backbone' for its forward pass, 'detector' for a prediction with decoding and NMS,
            'train' for the forward and backward pass of the detector's loss.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        batch: Number of images.
        device: 'cpu', 'cuda' or 'cuda:N'.
        dtype: One of :data:`DTYPES`. The backbone is cast to this type; a detector runs under
            autocast, as in mmengine's AMP.
        channels_last: Whether weights and images have the channels-last layout.
    """

    part: str = 'backbone'
    height: int = 800
    width: int = 1344
    batch: int = 1
    device: str = 'cpu'
    dtype: str = 'float32'
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.part not in PARTS or self.dtype not in DTYPES:
            raise UserError(
                f'part {self.part} or dtype {self.dtype} is unknown; use {", ".join(PARTS)} and '
                f'{", ".join(DTYPES)}'
            )
        if min(self.height, self.width, self.batch) < 1:
            raise UserError(
                f'{counted(self.batch, "image")} of {self.height}x{self.width} pixels cannot be '
                'measured; height, width and batch must be at least 1'
            )
        if self.device.startswith('cuda') and not torch.cuda.is_available():
            raise UserError(
                'PyTorch finds no GPU; pass --device cpu, or install a PyTorch with CUDA'
            )


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
            return cls(*values * 3)
        return cls(*statistics.quantiles(values, n=4, method='inclusive'))


@dataclass(frozen=True)
class Result:
    """Hold the measurements of one candidate in one setting.

    Attributes:
        name: Name of the candidate.
        setting: The setting.
        parameters: Number of parameters of the part.
        macs: Executed multiply-accumulates of a run; None for a training step.
        seconds: Time of each run.
        product_rate: MACs per second of a matrix product in each round.
        peak_bytes: Peak memory of a run beyond the model and its input; None if not measured.
    """

    name: str
    setting: Setting
    parameters: int
    macs: int | None
    seconds: tuple[float, ...]
    product_rate: tuple[float, ...]
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
        UserError: If a candidate cannot be built, or a number is too small.
    """
    if rounds < 1 or warmup < 0 or not names:
        raise UserError(
            'the benchmark needs at least one candidate and one round; pass --rounds >= 1 and '
            '--warmup >= 0'
        )
    if compiled and warmup < 1:
        raise UserError('models are compiled in the warm-up; pass --warmup 1 or more')
    models = {}
    for name in names:
        report(f'building {name}')
        models[name] = prepare(build_candidate(name), settings[0])
        if compiled:
            models[f'{name}, compiled'] = compile_parts(deepcopy(models[name]))
    for setting in settings:
        yield _measure(models, setting, rounds, warmup, memory, report)


def prepare(model: nn.Module, setting: Setting) -> nn.Module:
    """Move a detector to the device, type and mode of ``setting``."""
    # some backbones of mmdet return None from train() and eval()
    model.train(setting.part == 'train')
    model.to(setting.device)
    if setting.part == 'backbone':
        model.backbone.to(getattr(torch, setting.dtype))
    if setting.channels_last:
        model.to(memory_format=torch.channels_last)
    return model


def compile_parts(model: nn.Module) -> nn.Module:
    """Compile backbone and neck at their first call."""
    model.backbone.compile()
    if getattr(model, 'neck', None):
        model.neck.compile()
    return model


def workload(model: nn.Module, setting: Setting) -> Work:
    """Return a function without arguments that runs a prepared model once."""
    if setting.part == 'backbone':
        image = torch.randn(setting.batch, 3, setting.height, setting.width)
        image = image.to(setting.device, getattr(torch, setting.dtype))
        if setting.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        return torch.no_grad()(lambda: model.backbone(image))

    training = setting.part == 'train'
    data = demo_mm_inputs(
        setting.batch,
        [[3, setting.height, setting.width]] * setting.batch,
        num_items=[NUM_OBJECTS] * setting.batch,
        num_classes=80,
        with_mask=getattr(model, 'with_mask', False),
    )
    data = model.data_preprocessor(data, training)
    if setting.channels_last:
        data['inputs'] = data['inputs'].contiguous(memory_format=torch.channels_last)
    device, dtype = torch.device(setting.device).type, getattr(torch, setting.dtype)

    def autocast() -> torch.autocast:
        return torch.autocast(device, dtype, enabled=dtype is not torch.float32)

    @torch.no_grad()
    def predict() -> None:
        with autocast():
            model(**data, mode='predict')

    def train() -> None:
        with autocast():
            losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
        model.zero_grad(set_to_none=True)

    return train if training else predict


def matrix_product(setting: Setting) -> tuple[Work, int]:
    """Return a matrix product as a reference for the speed of the machine, and its MACs."""
    size = PRODUCT_SIZES[torch.device(setting.device).type]
    factors = torch.randn(2, size, size, device=setting.device).to(getattr(torch, setting.dtype))
    return lambda: torch.mm(*factors), size**3


def _measure(
    models: dict[str, nn.Module],
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

    product, product_macs = matrix_product(setting)
    product()
    seconds = {name: [] for name in works}
    rates = []
    for number in range(rounds):
        report(f'round {number + 1} of {rounds}')
        rates.append(product_macs / _time(product, setting.device))
        # reverse every other round, so that no candidate always follows the same one
        for name in list(works)[:: -1 if number % 2 else 1]:
            seconds[name].append(_time(works[name], setting.device))
    return [
        Result(
            name,
            setting,
            *_counts(model, setting),
            tuple(seconds[name]),
            tuple(rates),
            peaks[name],
        )
        for name, model in models.items()
    ]


def _counts(model: nn.Module, setting: Setting) -> tuple[int, int | None]:
    """Return the parameters of the part, and the MACs of a run."""
    parameters = count_parameters(model)
    if setting.part == 'train':
        return parameters.whole, None
    macs = count_model_macs(model, setting.height, setting.width)
    if setting.part == 'backbone':
        return parameters.backbone, macs.backbone * setting.batch
    return parameters.whole, macs.whole * setting.batch


def _time(work: Work, device: str) -> float:
    """Time one run, in seconds."""
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
