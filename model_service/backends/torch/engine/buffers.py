"""The memory of keys and values: flat allocations, seen per layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer keeps of a token."""

    heads: int
    key_size: int
    value_size: int


@dataclass(frozen=True, slots=True)
class KVLayout:
    """What a model keeps of a token, over all its layers, and where."""

    layers: tuple[LayerShape, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token."""
        numbers = sum(layer.heads * (layer.key_size + layer.value_size) for layer in self.layers)
        return numbers * self.dtype.itemsize


class KVBuffer:
    """Keys and values of up to `capacity` tokens, in one allocation.

    `keys[i]` and `values[i]` are layer i's views, [heads, capacity, size]. Slots below `used` are
    taken. `owners` is the store's count of who needs the buffer.
    """

    __slots__ = ("capacity", "keys", "nbytes", "owners", "used", "values")

    def __init__(self, layout: KVLayout, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.owners = 0
        self.nbytes = layout.bytes_per_token * capacity
        flat = torch.empty(
            self.nbytes // layout.dtype.itemsize, dtype=layout.dtype, device=layout.device
        )
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        sizes = [
            shape.heads * capacity * size
            for shape in layout.layers
            for size in (shape.key_size, shape.value_size)
        ]
        views = iter(torch.split(flat, sizes))
        for shape in layout.layers:
            self.keys.append(next(views).view(shape.heads, capacity, shape.key_size))
            self.values.append(next(views).view(shape.heads, capacity, shape.value_size))

    def copy_from(self, source: Span, start: int) -> None:
        """Copies the source's tokens to the slots from `start` on."""
        stop = start + source.length
        for own, other in zip(self.keys, source.buffer.keys, strict=True):
            own[:, start:stop].copy_(other[:, source.start : source.stop])
        for own, other in zip(self.values, source.buffer.values, strict=True):
            own[:, start:stop].copy_(other[:, source.start : source.stop])


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens in slots [start, stop) of a buffer."""

    buffer: KVBuffer
    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return self.stop - self.start


def chained(spans: tuple[Span, ...], following: Span) -> tuple[Span, ...]:
    """`spans` and the one that follows them, joined where their slots adjoin."""
    if following.length == 0:
        return spans
    if spans and spans[-1].buffer is following.buffer and spans[-1].stop == following.start:
        return (*spans[:-1], Span(following.buffer, spans[-1].start, following.stop))
    return (*spans, following)


def without_first(spans: tuple[Span, ...], count: int) -> tuple[Span, ...]:
    """The spans without their first `count` tokens."""
    rest = []
    for span in spans:
        skipped = min(count, span.length)
        count -= skipped
        if skipped < span.length:
            rest.append(Span(span.buffer, span.start + skipped, span.stop))
    return tuple(rest)
