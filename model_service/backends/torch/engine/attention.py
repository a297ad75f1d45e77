"""Attention of many sequences in one forward pass, over keys and values where they lie.

Registered with transformers' attention interface, so that any model that uses the interface runs
on it. The tokens of all sequences form one row, [1, tokens]; nothing is padded. Each layer writes
the new tokens' keys and values to their slots, then attends part by part: a part's tokens
see the spans before them, and each other as its bias says. No mask of transformers' own is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from model_service.backends.torch.engine.buffers import Span, without_first

IMPLEMENTATION = "specfuse"
COMPILED_IMPLEMENTATION = "specfuse_compiled"
"""The names of this attention in transformers' registry."""

_MANY_QUERIES = 32


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a layer turns queries and keys into scores. `window` counts the query itself."""

    scale: float
    softcap: float | None
    window: int | None


class AttentionPass(Protocol):
    """Does the attention of one forward pass."""

    def attend(
        self, layer: int, scoring: Scoring, qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Queries [heads, tokens, size], keys and values alike to [tokens, heads, value size]."""


_current: ContextVar[AttentionPass] = ContextVar("attention_pass")


@contextmanager
def attention_by(attention_pass: AttentionPass) -> Iterator[None]:
    """Within it, forward passes of this thread use `attention_pass`."""
    token = _current.set(attention_pass)
    try:
        yield
    finally:
        _current.reset(token)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """What transformers calls: queries, keys and values are [1, heads, tokens, size]."""
    scoring = _scoring(query, attention_mask, options)
    layer = cast(int, module.layer_idx)
    return _current.get().attend(layer, scoring, (query[0], key[0], value[0]))[None], None


def _scoring(
    query: torch.Tensor, mask: torch.Tensor | None, options: Mapping[str, object]
) -> Scoring:
    if mask is not None:
        raise ValueError("the engine's attention takes no mask")
    scale = cast("float | None", options.get("scaling"))
    return Scoring(
        query.shape[-1] ** -0.5 if scale is None else scale,
        cast("float | None", options.get("softcap")),
        cast("int | None", options.get("sliding_window")),
    )


@torch.library.custom_op(
    "specfuse::attend",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, int layer, float scale, float? cap, int? window)"
    " -> Tensor",
    tags=(torch.Tag.cudagraph_unsafe,),  # what it reads is elsewhere in every pass
)
def _opaque(  # noqa: PLR0913, PLR0917 - an operator's arguments are flat
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer: int,
    scale: float,
    cap: float | None,
    window: int | None,
) -> torch.Tensor:
    output = _current.get().attend(layer, Scoring(scale, cap, window), (q[0], k[0], v[0]))
    return output[None].contiguous()


@_opaque.register_fake
def _opaque_shape(q: torch.Tensor, _k: torch.Tensor, v: torch.Tensor, *_: object) -> torch.Tensor:
    return q.new_empty(1, q.shape[2], q.shape[1], v.shape[-1])


def _compiled_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """The same as one operator, which `torch.compile` leaves as it is."""
    scoring = _scoring(query, attention_mask, options)
    layer = cast(int, module.layer_idx)
    output = _opaque(query, key, value, layer, scoring.scale, scoring.softcap, scoring.window)
    return output, None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionInterface.register(COMPILED_IMPLEMENTATION, _compiled_attention)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a part of the row sees under a window: spans, and a bias on the last keys, if on any.

    `bias` is [queries, last keys], 0 or -inf.
    """

    spans: tuple[Span, ...]
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class RowPart:
    """Consecutive tokens [start, stop) of the row that belong to one context.

    `writes` says where the new tokens' keys and values go, in order. `spans` is all that any of
    them sees, the new tokens' own slots at the end. `positions` [tokens] are those of the new
    tokens; `hidden` [tokens, tokens] says which new tokens each does not see, None if it
    sees all. The keys before the new tokens are at positions 0, 1, ...
    """

    start: int
    stop: int
    writes: tuple[Span, ...]
    spans: tuple[Span, ...]
    positions: torch.Tensor
    hidden: torch.Tensor | None
    device: torch.device
    dtype: torch.dtype
    _sights: dict[int | None, Sight] = field(default_factory=dict)

    def sight(self, window: int | None) -> Sight:
        """What is seen through a window of so many tokens."""
        keys = sum(span.length for span in self.spans)
        if window is not None and keys <= window:
            window = None
        if window not in self._sights:
            self._sights[window] = self._look(window, keys)
        return self._sights[window]

    def _look(self, window: int | None, keys: int) -> Sight:
        if window is None:
            return Sight(self.spans, self._bias(self.hidden))
        fresh = len(self.positions)
        positions = torch.cat((torch.arange(keys - fresh), self.positions))
        hidden = positions[None, :] <= self.positions[:, None] - window
        if self.hidden is not None:
            hidden[:, keys - fresh :] |= self.hidden
        skipped = max(0, min(int(self.positions[0]) - window + 1, keys - fresh))
        return Sight(without_first(self.spans, skipped), self._bias(hidden[:, skipped:]))

    def _bias(self, hidden: torch.Tensor | None) -> torch.Tensor | None:
        if hidden is None or not hidden.any():
            return None
        bias = torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, -torch.inf)
        return bias.to(self.device)


@dataclass(frozen=True, slots=True)
class Packing:
    """The parts of one forward pass, which cover its row."""

    parts: Sequence[RowPart]

    def attend(
        self, layer: int, scoring: Scoring, qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Writes the new keys and values, then attends part by part."""
        query, key, value = qkv
        outputs = []
        for part in self.parts:
            _write(layer, part, key, value)
            sight = part.sight(scoring.window)
            keys = [span.buffer.keys[layer][:, span.start : span.stop] for span in sight.spans]
            values = [span.buffer.values[layer][:, span.start : span.stop] for span in sight.spans]
            output = _attend(query[:, part.start : part.stop], keys, values, sight.bias, scoring)
            outputs.append(output.transpose(0, 1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _write(layer: int, part: RowPart, key: torch.Tensor, value: torch.Tensor) -> None:
    start = part.start
    for span in part.writes:
        stop = start + span.length
        span.buffer.keys[layer][:, span.start : span.stop] = key[:, start:stop]
        span.buffer.values[layer][:, span.start : span.stop] = value[:, start:stop]
        start = stop


def _attend(
    query: torch.Tensor,
    keys: list[torch.Tensor],
    values: list[torch.Tensor],
    bias: torch.Tensor | None,
    scoring: Scoring,
) -> torch.Tensor:
    """Queries [heads, queries, size] over spans of [key heads, keys, size]; heads first."""
    if scoring.softcap is None and (len(keys) == 1 or query.shape[1] >= _MANY_QUERIES):
        return _attend_fused(query, _one(keys), _one(values), bias, scoring.scale)
    heads, queries, size = query.shape
    groups = keys[0].shape[0]
    grouped = (query * scoring.scale).reshape(groups, -1, size)
    scores = _one([torch.bmm(grouped, key.transpose(1, 2)) for key in keys], -1)
    if scoring.softcap is not None:
        scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
    if bias is not None:
        scores.view(groups, -1, queries, scores.shape[-1])[..., -bias.shape[-1] :] += bias
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    shares = torch.split(weights, [value.shape[1] for value in values], -1)
    output = torch.bmm(shares[0], values[0])
    for share, value in zip(shares[1:], values[1:], strict=True):
        output += torch.bmm(share, value)
    return output.view(heads, queries, -1)


def _one(parts: list[torch.Tensor], dim: int = 1) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _attend_fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    heads, queries, size = query.shape
    if queries == 1 and bias is None:  # a group's heads share keys: they are its queries
        query = query.reshape(key.shape[0], -1, size)
        grouped = scaled_dot_product_attention(query[None], key[None], value[None], scale=scale)
        return grouped.view(heads, queries, -1)
    if bias is not None:
        bias = pad(bias, (key.shape[1] - bias.shape[1], 0))
    return scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=bias, scale=scale, enable_gqa=True
    )[0]


@dataclass(slots=True)
class Inspection:
    """An attention pass over one sequence on its own that records what each layer is like."""

    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)
    repeated: bool = False

    def attend(
        self, layer: int, scoring: Scoring, qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Records the layer; its output is not meaningful."""
        query, key, value = qkv
        self.repeated |= layer in self.keys
        self.keys[layer], self.values[layer] = key, value
        self.windows[layer] = scoring.window
        repeats = query.shape[0] // value.shape[0]
        return value.repeat_interleave(repeats, 0).transpose(0, 1)
