"""Matrix products of a few rows on a CPU.

A drafting step of several sessions and a scoring pass multiply a few rows by all weights. BLAS
repacks the weights for each such product, which doubles its time; oneDNN can repack them once and
for all. One row is best multiplied as is, and for many the repacking does not matter. So linear
layers get their weights a second time, in oneDNN's layout, unless the model is large.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn.functional import linear

_FEW_ROWS = 64
_USUAL_ROWS = 16
_MOST_BYTES = 2 << 30
"""Weights that take more are not kept twice."""


def speed_up_few_rows(model: nn.Module) -> None:
    """Lets a model's plain float32 linear layers on the CPU choose the product by row count."""
    layers = [
        module for module in model.modules() if type(module) is nn.Linear and _is_plain(module)
    ]
    nbytes = sum(layer.weight.nbytes for layer in layers)
    if nbytes > _MOST_BYTES or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return
    for layer in layers:
        packed = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001 - torch.compile's own
            layer.weight.detach(), _USUAL_ROWS
        )
        layer.forward = partial(_product, layer, packed)  # type: ignore[method-assign]


def _is_plain(layer: nn.Linear) -> bool:
    weight: object = layer.weight
    return (
        type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and weight.dtype is torch.float32
    )


def _product(layer: nn.Linear, packed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    if not 1 < rows.numel() // layer.in_features <= _FEW_ROWS:
        return linear(rows, layer.weight, layer.bias)
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
        rows, packed, layer.bias, "none", [], ""
    )
    return output
