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
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return  # others were not measured
    linear = [layer.weight for layer in model.modules() if type(layer) is nn.Linear]
    rearranged = {weights for weights in linear if _is_plain(weights)}
    for weights in rearranged:
        weights.data = weights.detach().t().contiguous().t()
    if rearranged:
        _copy({weights for weights in model.parameters() if _is_plain(weights)} - rearranged)


def _copy(parameters: set[nn.Parameter]) -> None:
    """Copies what is left of a file that weights were mapped from.

    As long as anything of it is used, what was rearranged takes memory there as well.
    """
    for parameter in parameters:
        parameter.data = parameter.detach().clone()


def _is_plain(weights: object) -> bool:
    return (
        type(weights) is nn.Parameter
        and weights.device.type == "cpu"
        and weights.dtype is torch.float32
    )
