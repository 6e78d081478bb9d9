"""Format Markdown tables, and insert them into documents."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from dsnet_mm.errors import UserError

from .model_info import BackboneInfo, MemoryInfo, ModelInfo


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with a left-aligned first column and right-aligned others."""
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def model_tables(backbones: Sequence[BackboneInfo], models: Sequence[ModelInfo]) -> str:
    """Return the tables of the papers' models and of detectors; leave out empty tables."""
    tables = []
    if backbones:
        published = 'published formulation'
        header = ['Model', 'M parameters', 'paper', f'G MACs at 224x224, {published}', 'paper']
        rows = [
            [
                info.name,
                _millions(info.parameters),
                f'{info.paper_parameters}',
                _billions(info.published_macs, 2),
                f'{info.paper_macs:.1f}',
                _billions(info.executed_macs, 2),
            ]
            for info in backbones
        ]
        tables.append(markdown([*header, 'as executed'], rows))
        header = ['Backbone', 'M parameters', f'G MACs at 800x1280, {published}', 'as executed']
        rows = [
            [
                info.name,
                _millions(info.backbone_parameters),
                _billions(info.backbone_published_macs),
                _billions(info.backbone_executed_macs),
            ]
            for info in backbones
        ]
        tables.append(markdown(header, rows))
    if models:
        parts = ['backbone', 'neck', 'heads', 'whole']
        rows = [[info.name, *map(_millions, info.parameters.parts)] for info in models]
        tables.append(markdown(['M parameters', *parts], rows))
        header = [f'G MACs at {_size(models)}', *parts, 'whole, published formulation']
        rows = [
            [info.name, *map(_billions, (*info.executed_macs.parts, info.published_macs.whole))]
            for info in models
        ]
        tables.append(markdown(header, rows))
    return '\n\n'.join(tables)


def memory_table(infos: Sequence[MemoryInfo]) -> str:
    """Return a table of the memory of detectors, with date and PyTorch version."""
    header = [f'MB at {_size(infos)}', 'backbone', 'neck', 'prediction', 'training step']
    peaks = [(info.backbone, info.neck, info.whole, info.training) for info in infos]
    rows = [
        [info.name, *(f'{peak / 1e6:.0f}' for peak in row)]
        for info, row in zip(infos, peaks, strict=True)
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
    block = re.search(rf'(<!-- {name}\b[^>]*-->)(.*?)<!-- end of {name} -->', document, re.DOTALL)
    if not block:
        raise UserError(
            f'{path} lacks the comments of the {name}; add the lines `<!-- {name} -->` and '
            f'`<!-- end of {name} -->`'
        )
    start, end = block.span(2)
    path.write_text(f'{document[:start]}\n{text}\n{document[end:]}', encoding='utf-8')


def _size(infos: Sequence[ModelInfo | MemoryInfo]) -> str:
    """Return the image size, which is the same for all models."""
    return f'{infos[0].height}x{infos[0].width}'


def _millions(number: int) -> str:
    return f'{number / 1e6:.2f}'


def _billions(number: int, digits: int = 1) -> str:
    return f'{number / 1e9:.{digits}f}'
