"""Matrix products of a few rows on a CPU.

A drafting step of several sessions and a scoring pass have five to fifteen rows. For these, BLAS
multiplies [outputs, inputs] by [inputs, rows] up to a third faster than the other way round, which
is what a linear layer asks of it: it need not repack the weights. One row, or many, are best as is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FEW_ROWS = range(5, 16)


def speed_up_few_rows(model: PreTrainedModel) -> None:
    """Lets a model's plain float32 linear layers on the CPU choose the product by the rows."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if type(module) is nn.Linear and _is_plain(weight):
            module.forward = partial(_product, module)  # type: ignore[method-assign]


def _is_plain(weight: object) -> bool:
    return (
        type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and weight.dtype is torch.float32
    )


def _product(layer: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    count = rows.numel() // layer.in_features
    if count not in _FEW_ROWS:
        return linear(rows, layer.weight, layer.bias)
    columns = rows.reshape(count, layer.in_features).t()
    bias: torch.Tensor | None = layer.bias
    output = torch.mm(layer.weight, columns).t()
    output = output.contiguous() if bias is None else output + bias
    return output.reshape(*rows.shape[:-1], layer.out_features)
