"""How the weights of linear layers lie in a CPU's memory.

PyTorch keeps a layer's weights output by output. For a product of a few rows, as of the drafting
steps of several sessions, BLAS rearranges them first, every time, which takes about as long as to
multiply by them. In oneDNN's blocks they are read once, from front to back. Where blocks do not
pay, or cannot be had, weights lie input by input, of which BLAS rearranges less.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final, TypeGuard

import torch
from torch import nn
from torch.nn.functional import pad

LEAST_BLOCKED_BYTES: Final = 64 << 20
"""Layers that take less together are not put in blocks: for each shape and number of rows that it
multiplies, oneDNN keeps half a mebibyte and more."""

_ROWS: Final = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""The numbers of rows that are multiplied, so that they are few. Four take no longer than one."""


class BlockedLinear(nn.Module):
    """A linear layer of float32 weights that lie in oneDNN's blocks, and nowhere else."""

    def __init__(self, layer: nn.Linear) -> None:
        """Has the same weights as this layer."""
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        self.bias = layer.bias
        self._blocks: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001 - what torch.compile uses
            layer.weight.detach(), _ROWS[0]
        )

    @property
    def weight(self) -> torch.Tensor:
        """A copy of the weights as they are elsewhere, [outputs, inputs]."""
        return self._blocks.to_dense()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """From [..., inputs] to [..., outputs]."""
        rows = inputs.reshape(-1, self.in_features)
        if len(rows) <= _ROWS[-1]:
            products = self._product(rows)
        else:
            products = torch.cat([self._product(part) for part in torch.split(rows, _ROWS[-1])])
        return products.view(*inputs.shape[:-1], self.out_features)

    def _product(self, rows: torch.Tensor) -> torch.Tensor:
        count = len(rows)
        missing = _ROWS[bisect_left(_ROWS, count)] - count
        if missing:
            rows = pad(rows, (0, 0, 0, missing))
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
            rows, self._blocks, self.bias, "none", [], ""
        )
        return product[:count]


def lay_out_weights(model: nn.Module, least_blocked_bytes: int | None) -> None:
    """Rearranges the weights of a model's plain float32 linear layers on the CPU, one by one.

    Layers that share theirs with nobody become a `BlockedLinear`, if they take at least
    `least_blocked_bytes` together; None stands for never. The weights of others remain the same
    tensors of the same shape; only their strides change. Embeddings that share them go on doing so.
    """
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return  # other processors were not measured
    blocked = _put_in_blocks(model, least_blocked_bytes)
    rearranged = _lay_out_by_inputs(model)
    if blocked or rearranged:
        _copy({weights for weights in model.parameters() if _is_plain(weights)} - rearranged)


def _put_in_blocks(model: nn.Module, least_bytes: int | None) -> bool:
    if least_bytes is None or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False  # with AVX2 alone, a single row takes longer in blocks
    layers = _unshared(model)
    if sum(layer.weight.nbytes for layer in layers.values()) < least_bytes:
        return False
    for name in tuple(layers):
        # Nobody may hold what is replaced, or all of it takes its memory twice.
        model.set_submodule(name, BlockedLinear(layers.pop(name)))
    return True


def _unshared(model: nn.Module) -> dict[str, nn.Linear]:
    """Plain layers that are in one place and whose weights are no other's, by name."""
    modules = list(model.named_modules(remove_duplicate=False))
    uses = Counter(
        id(weights) for _, module in modules for weights in module.parameters(recurse=False)
    )
    return {
        name: module
        for name, module in modules
        if _is_plain_layer(module) and uses[id(module.weight)] == 1 and module is not model
    }


def _lay_out_by_inputs(model: nn.Module) -> set[torch.Tensor]:
    """The weights that it has rearranged."""
    rearranged = {layer.weight for layer in model.modules() if _is_plain_layer(layer)}
    for weights in rearranged:
        weights.data = weights.detach().t().contiguous().t()
    return rearranged


def _copy(parameters: set[nn.Parameter]) -> None:
    """Copies what is left of a file that weights were mapped from.

    As long as anything of it is used, what was rearranged takes memory there as well.
    """
    for parameter in parameters:
        parameter.data = parameter.detach().clone()


def _is_plain_layer(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and _is_plain(module.weight)


def _is_plain(weights: object) -> bool:
    return (
        type(weights) is nn.Parameter
        and weights.device.type == "cpu"
        and weights.dtype is torch.float32
    )
