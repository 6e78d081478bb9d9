"""Time and memory of models against each other, measured in turns on one machine."""

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
PRODUCT_SIZES = dict(cpu=2048, cuda=8192)  # rows and columns of the matrices of reference

Work = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """What is measured, and on which input.

    Attributes:
        part: 'backbone' for its forward pass, 'detector' for a prediction, decoding and NMS
            included, 'train' for forward and backward pass of the detector's loss.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        batch: Number of images.
        device: 'cpu', or 'cuda' with or without a number.
        dtype: One of :data:`DTYPES`. A backbone is cast as a whole, a detector runs under
            autocast, as mmengine's AMP does it.
        channels_last: Whether weights and images are laid out so.
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
                'measured; height, width and batch start at 1'
            )
        if self.device.startswith('cuda') and not torch.cuda.is_available():
            raise UserError('no GPU is found; use the device cpu, or a PyTorch that sees the GPU')


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        if len(values) == 1:
            return cls(*values * 3)
        return cls(*statistics.quantiles(values, n=4, method='inclusive'))


@dataclass(frozen=True)
class Result:
    """What was measured of one candidate in one setting.

    Attributes:
        name: The candidate's.
        setting: The setting.
        parameters: Parameters of the part.
        macs: Multiply-accumulates of a run as executed; None for a training step.
        seconds: Time of each run.
        product_rate: MACs per second of a matrix product, measured in each round.
        peak_bytes: Peak memory of a run above the model and its input; None if not measured.
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
        """Images per second."""
        return self.setting.batch / Spread.of(self.seconds).median

    @property
    def against_product(self) -> Spread | None:
        """Time over that of as many MACs in a matrix product, round by round."""
        if self.macs is None:
            return None
        pairs = zip(self.seconds, self.product_rate, strict=True)
        return Spread.of([seconds * rate / self.macs for seconds, rate in pairs])

    def time_against(self, other: Result) -> Spread:
        """Time over that of another candidate, round by round."""
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
    """Measure candidates in turns, so that what disturbs the machine disturbs all of them.

    Args:
        names: Candidates, see :func:`~.building.build_candidate`.
        settings: What is measured; they share part, device, dtype and layout.
        rounds: How often each candidate is timed.
        warmup: Runs of each candidate before.
        memory: Whether to measure peak memory, in a run of its own.
        compiled: Whether each candidate takes part a second time, with its backbone and neck
            compiled by torch.compile, which happens in the warm-up.
        report: Called with what is done next.

    Yields:
        The results of one setting, in the order of ``names``; a compiled candidate follows the
        one that is not.

    Raises:
        UserError: If a candidate cannot be built, or a number is too small.
    """
    if rounds < 1 or warmup < 0 or not names:
        raise UserError('at least one candidate and one round are needed, and no negative warm-up')
    if compiled and warmup < 1:
        raise UserError('models are compiled in the warm-up; give at least one run of it')
    models = {}
    for name in names:
        report(f'building {name}')
        models[name] = prepare(build_candidate(name), settings[0])
        if compiled:
            models[f'{name}, compiled'] = compile_parts(deepcopy(models[name]))
    for setting in settings:
        yield _measure(models, setting, rounds, warmup, memory, report)


def prepare(model: nn.Module, setting: Setting) -> nn.Module:
    """Bring a detector to the device, the type and the mode of ``setting``."""
    # some of mmdet's backbones return None from train() and eval()
    model.train(setting.part == 'train')
    model.to(setting.device)
    if setting.part == 'backbone':
        model.backbone.to(getattr(torch, setting.dtype))
    if setting.channels_last:
        model.to(memory_format=torch.channels_last)
    return model


def compile_parts(model: nn.Module) -> nn.Module:
    """Have backbone and neck compiled at their first call."""
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
    """Return the matrix product that tells the machine's rate, and its MACs."""
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
        # every other round backwards: no candidate always follows the same one
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
    """Return parameters of the part, and MACs of a run."""
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
