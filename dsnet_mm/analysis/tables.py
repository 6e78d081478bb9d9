"""Format Markdown tables, and insert them into documents."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from dsnet_mm.errors import UserError

from .macs import Cost
from .model_info import BackboneInfo, MemoryInfo, ModelInfo


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with a left-aligned first column and right-aligned others."""
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def model_tables(backbones: Sequence[BackboneInfo], models: Sequence[ModelInfo]) -> str:
    """Return all tables of backbones and detectors, without tables for empty sequences."""
    parts = []
    if backbones:
        parts += [backbone_table(backbones), large_backbone_table(backbones)]
    if models:
        parts += [parameters_table(models), macs_table(models)]
    return '\n\n'.join(parts)


def backbone_table(infos: Iterable[BackboneInfo]) -> str:
    """Return a table of the six models next to the figures of the paper."""
    header = [
        'Model',
        'M parameters',
        'paper',
        'G MACs at 224x224, published formulation',
        'paper',
        'as executed',
    ]
    rows = [
        [
            info.name,
            _millions(info.parameters),
            f'{info.paper_parameters:.1f}',
            _billions(info.published_macs, 2),
            f'{info.paper_macs:.1f}',
            _billions(info.executed_macs, 2),
        ]
        for info in infos
    ]
    return markdown(header, rows)


def large_backbone_table(infos: Iterable[BackboneInfo]) -> str:
    """Return a table of the cost of the six backbones at the image size of detectors."""
    header = [
        'Backbone',
        'M parameters',
        'G MACs at 800x1280, published formulation',
        'as executed',
    ]
    rows = [
        [
            info.name,
            _millions(info.backbone_parameters),
            _billions(info.backbone_published_macs),
            _billions(info.backbone_executed_macs),
        ]
        for info in infos
    ]
    return markdown(header, rows)


def parameters_table(infos: Iterable[ModelInfo]) -> str:
    """Return a table of the parameters of the parts of models."""
    header = ['M parameters', 'backbone', 'neck', 'heads', 'whole']
    return markdown(
        header, ([info.name, *map(_millions, _parts(info.parameters))] for info in infos)
    )


def macs_table(infos: Sequence[ModelInfo]) -> str:
    """Return a table of executed MACs per part of models, and of the published formulation."""
    sizes = sorted({f'{info.height}x{info.width}' for info in infos})
    header = [
        f'G MACs at {", ".join(sizes)}',
        'backbone',
        'neck',
        'heads',
        'whole',
        'whole, published formulation',
    ]
    rows = [
        [
            info.name,
            *map(_billions, _parts(info.executed_macs)),
            _billions(info.published_macs.whole),
        ]
        for info in infos
    ]
    return markdown(header, rows)


def memory_table(infos: Sequence[MemoryInfo]) -> str:
    """Return a table of the memory of detectors, with date and PyTorch version."""
    sizes = sorted({f'{info.height}x{info.width}' for info in infos})
    header = [f'MB at {", ".join(sizes)}', 'backbone', 'neck', 'prediction', 'training step']
    rows = [
        [
            info.name,
            *(
                f'{peak / 1e6:.0f}'
                for peak in (info.backbone, info.neck, info.whole, info.training)
            ),
        ]
        for info in infos
    ]
    release = torch.__version__.split('+')[0]
    measured = f'Measured on {datetime.date.today()} with torch {release}, on a CPU, in float32.'
    return f'{markdown(header, rows)}\n\n{measured}'


def replace_block(path: str | Path, name: str, text: str) -> None:
    """Replace the text between the two comments that mark the block ``name`` of a document.

    Raises:
        UserError: If the document cannot be read or lacks the comments.
    """
    path = Path(path)
    try:
        document = path.read_text(encoding='utf-8')
    except OSError as error:
        raise UserError(
            f'{path} cannot be read ({error.strerror}); pass the document with --write'
        ) from error
    start, end = _block(document, name, path)
    path.write_text(f'{document[:start]}\n{text}\n{document[end:]}', encoding='utf-8')


def read_block(path: str | Path, name: str) -> str:
    """Return the stripped text of the block ``name`` of a document."""
    document = Path(path).read_text(encoding='utf-8')
    start, end = _block(document, name, path)
    return document[start:end].strip()


def _block(document: str, name: str, path: str | Path) -> tuple[int, int]:
    """Return where the text of a block starts and ends."""
    match = re.search(rf'(<!-- {name}\b[^>]*-->)(.*?)<!-- end of {name} -->', document, re.DOTALL)
    if not match:
        raise UserError(
            f'{path} lacks the comments of the {name}; add the lines `<!-- {name} -->` and '
            f'`<!-- end of {name} -->`'
        )
    return match.span(2)


def _parts(cost: Cost) -> tuple[int, int, int, int]:
    return cost.backbone, cost.neck, cost.heads, cost.whole


def _millions(number: int) -> str:
    return f'{number / 1e6:.2f}'


def _billions(number: int, digits: int = 1) -> str:
    return f'{number / 1e9:.{digits}f}'
