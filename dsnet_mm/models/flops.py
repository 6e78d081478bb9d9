"""Let mmengine's FLOPs counter, which mmdet's `get_flops.py` uses, count fused attention."""

from __future__ import annotations

from typing import Any

from mmengine.analysis import complexity_analysis


def attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Return the multiply-accumulates of fused attention, which mmengine calls FLOPs.

    Args:
        inputs: Traced query (..., L, E), key (..., S, E), value (..., S, V) and further arguments.
        outputs: Traced results, which are not needed.
    """
    query, key, value = (traced.type().sizes() for traced in inputs[:3])
    batch_and_heads = 1
    for size in query[:-2]:
        batch_and_heads *= size
    return batch_and_heads * query[-2] * key[-2] * (query[-1] + value[-1])


complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS.setdefault(
    'aten::scaled_dot_product_attention', attention_macs
)
