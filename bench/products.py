"""Measures what products of few rows take by how weights lie: `python bench/products.py`.

All linear layers of a model, one after the other, so that weights come from memory as they do in a
forward pass: in turns as PyTorch keeps them, input by input, and in oneDNN's blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Annotated, Final

import torch
import typer
from rich.table import Table
from torch import nn

from bench.ratios import median_ratio
from bench.report import show
from bench.subjects import Shape, llama_35m
from model_service.backends.torch.engine.linear import BlockedLinear, lay_out_weights

LAYOUTS: Final[Mapping[str, Callable[[nn.Module], None]]] = {
    "as PyTorch": lambda _: None,
    "by inputs": partial(lay_out_weights, least_blocked_bytes=None),
    "in blocks": partial(lay_out_weights, least_blocked_bytes=0),
}
"""What is done to a model, by what its weights then are like."""


class Layers:
    """The linear layers of a model whose weights lie in one way."""

    def __init__(self, shape: Shape, lay_out: Callable[[nn.Module], None]) -> None:
        model = shape.built()
        lay_out(model)
        self._layers: Sequence[nn.Linear | BlockedLinear] = [
            layer for layer in model.modules() if isinstance(layer, nn.Linear | BlockedLinear)
        ]
        self.parameters = sum(layer.in_features * layer.out_features for layer in self._layers)

    @torch.inference_mode()
    def seconds(self, rows: int) -> float:
        """Of one product of so many rows with every layer."""
        inputs = {size: torch.randn(rows, size) for size in {i.in_features for i in self._layers}}
        began = time.perf_counter()
        for layer in self._layers:
            layer(inputs[layer.in_features])
        return time.perf_counter() - began


def measured(
    subjects: Mapping[str, Layers], rows: int, repeats: int
) -> Mapping[str, Sequence[float]]:
    """Seconds by layout, an entry a repeat."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for repeat in range(-1, repeats):  # the first is to warm up
        for name, layers in subjects.items():
            took = layers.seconds(rows)
            if repeat >= 0:
                seconds[name].append(took)
    return seconds


def main(
    rows: Annotated[
        list[int] | None, typer.Option(min=1, help="Rows of a product. May be given several times.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
) -> None:
    """Measure products of few rows by how weights lie."""
    torch.set_num_threads(threads)
    shape = Shape(llama_35m(), torch.device("cpu"), torch.float32)
    subjects = {name: Layers(shape, lay_out) for name, lay_out in LAYOUTS.items()}
    table = Table(title="Products with all weights, by how they lie")
    for column in ("rows", *(f"{name}, ms" for name in LAYOUTS), "blocks / PyTorch", "/ by inputs"):
        table.add_column(column, justify="right")
    for count in rows or (1, 2, 4, 8, 12, 16, 20, 32, 64, 128, 256):
        plain, by_inputs, blocks = measured(subjects, count, repeats).values()
        table.add_row(
            str(count),
            *(f"{1000 * median(seconds):.1f}" for seconds in (plain, by_inputs, blocks)),
            f"{median_ratio(blocks, plain):.2f}",
            f"{median_ratio(blocks, by_inputs):.2f}",
        )
    weights = next(iter(subjects.values())).parameters
    processor = torch.backends.cpu.get_cpu_capability()
    table.caption = f"{weights / 1e6:.0f}M weights, {threads} thread(s), {processor}"
    show(table)


if __name__ == "__main__":
    typer.run(main)
