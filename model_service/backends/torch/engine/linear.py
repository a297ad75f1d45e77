"""Matrix products of a few rows on a CPU.

A drafting step of several sessions and a scoring pass multiply a few rows by all weights. BLAS
repacks the weights for each such product; oneDNN can repack them once and for all. For large layers
that saves up to half of the time, for small ones, or for less than four rows, it costs more than it
saves. So large layers get their weights a second time, in oneDNN's layout, as far as that may take
memory.

oneDNN keeps a program of half a megabyte for every shape that it multiplies. So rows are filled up
to one of a few numbers, which changes no result.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import torch
from torch import nn
from torch.nn.functional import linear, pad

logger = logging.getLogger(__name__)

_FEW_ROWS: Final = range(4, 65)
_ROWS_AT_A_TIME: Final = 8
_USUAL_ROWS: Final = 16
_LEAST_BYTES: Final = 16 << 20
"""A layer with less stays in the processor's cache while it is repacked."""
_MOST_BYTES: Final = 2 << 30
"""Of a model whose layers have more, nothing is kept twice."""
_MOST_SHARE: Final = 0.25
"""Of a model's weights, at most so much is kept twice."""


def speed_up_few_rows(model: nn.Module) -> int:
    """Lets a model's large float32 linear layers on the CPU choose the product by row count.

    Returns the bytes that this takes.
    """
    layers = chosen(model)
    for layer in layers:
        packed = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001 - torch.compile's own
            layer.weight.detach(), _USUAL_ROWS
        )
        layer.forward = partial(_product, layer, packed)  # type: ignore[method-assign]
    nbytes = sum(layer.weight.nbytes for layer in layers)
    if layers:
        logger.info(
            "%d MiB of weights are kept twice, for faster products of a few rows", nbytes >> 20
        )
    return nbytes


def chosen(model: nn.Module) -> list[nn.Linear]:
    """The layers whose weights are kept twice: in the model's order, as many as may be."""
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return []
    plain = [layer for layer in model.modules() if type(layer) is nn.Linear and _is_plain(layer)]
    if sum(layer.weight.nbytes for layer in plain) > _MOST_BYTES:
        return []
    left = int(_MOST_SHARE * sum(weights.nbytes for weights in model.parameters()))
    layers = []
    for layer in plain:
        if _LEAST_BYTES <= layer.weight.nbytes <= left:
            layers.append(layer)
            left -= layer.weight.nbytes
    return layers


def _is_plain(layer: nn.Linear) -> bool:
    weight: object = layer.weight
    return (
        type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and weight.dtype is torch.float32
    )


def _product(layer: nn.Linear, packed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    count = rows.numel() // layer.in_features
    if count not in _FEW_ROWS:
        return linear(rows, layer.weight, layer.bias)
    flat = pad(rows.reshape(count, -1), (0, 0, 0, -count % _ROWS_AT_A_TIME))
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
        flat, packed, layer.bias, "none", [], ""
    )
    return output[:count].view(*rows.shape[:-1], -1)
