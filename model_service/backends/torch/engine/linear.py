"""How the weights of linear layers lie in a CPU's memory.

PyTorch keeps a layer's weights output by output. For a product of 4 to 15 rows, as of the drafting
steps of several sessions, BLAS rearranges them first, every time, which takes about as long as to
multiply by them. Input by input it need not, and other numbers of rows are hardly slower or faster.
"""

from __future__ import annotations

import torch
from torch import nn


def lay_out_by_inputs(model: nn.Module) -> None:
    """Rearranges the weights of a model's plain float32 linear layers on the CPU, one by one.

    They remain the same tensors of the same shape; only their strides change. Embeddings that share
    them go on doing so.
    """
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call] # others: not measured
        for layer in model.modules():
            if type(layer) is nn.Linear and _is_plain(layer.weight):
                layer.weight.data = layer.weight.detach().t().contiguous().t()


def _is_plain(weight: object) -> bool:
    return (
        type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and weight.dtype is torch.float32
    )
