"""The engine for models on transformers' attention interface: any mix of steps in one forward.

All tokens of all steps form one row, whatever they are: drafts of many calls, chunks of prompts,
branches to be scored. Branches see the context and themselves only, and each starts at the
position after the context.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from model_service.backends.torch.engine.attention import Packing, RowPart, attention_by
from model_service.backends.torch.engine.buffers import Span, chained
from model_service.backends.torch.engine.engine import Lease, Outcome, Rows, Step, TokenIds
from model_service.backends.torch.engine.lease import StoreLease
from model_service.backends.torch.engine.store import KVStore
from specfuse.errors import ModelFailure, Overloaded


class PackedEngine:
    """Runs steps in one forward pass over a store of keys and values."""

    scores_trees = True
    caches_prefixes = True

    def __init__(self, model: PreTrainedModel, store: KVStore) -> None:
        """The model must use this package's attention."""
        self._model = model
        self._store = store

    @property
    def longest_context(self) -> int:
        """What the store has room for."""
        return self._store.longest_context

    @property
    def used_bytes(self) -> int:
        """What its store takes."""
        return self._store.used_bytes

    def open(self, ids: TokenIds) -> StoreLease:
        """A lease on the longest cached prefix of the context."""
        return StoreLease.open(self._store, ids)

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Runs the steps in one forward pass and moves their leases on."""
        outcomes: list[Outcome | None] = []
        row = _Row(self._model.device, self._model.dtype)
        for step in steps:
            try:
                row.add(step)
                outcomes.append(None)
            except Overloaded as refusal:
                outcomes.append(refusal)
        if row.placed:
            answers = iter(_divided(self._forward(row), row.placed))
            outcomes = [next(answers) if outcome is None else outcome for outcome in outcomes]
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self) -> None:
        """There is nothing to end."""

    def _forward(self, row: _Row) -> Rows:
        device = self._model.device
        wanted = torch.tensor(row.wanted, device=device)
        with attention_by(Packing(row.parts)):
            logits: torch.Tensor = self._model(
                input_ids=torch.tensor([row.tokens], device=device),
                position_ids=torch.tensor([row.positions], device=device),
                use_cache=False,
                logits_to_keep=wanted,
            ).logits[0]
        return rows_of(logits)


class _Placed:
    """A step and where its branches went."""

    __slots__ = ("branches", "step", "wanted")

    def __init__(self, step: Step, branches: tuple[Span, ...], wanted: int) -> None:
        self.step = step
        self.branches = branches
        self.wanted = wanted


class _Row:
    """The tokens of one forward pass, gathered step by step."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.wanted: list[int] = []
        self.parts: list[RowPart] = []
        self.placed: list[_Placed] = []
        self._device = device
        self._dtype = dtype

    def add(self, step: Step) -> None:
        """Places a step's tokens.

        Raises:
            Overloaded: there is no memory for their keys and values; nothing was placed.
        """
        lease = _own(step.lease)
        start, length = len(self.tokens), lease.node.length
        spans, writes = lease.node.spans, []
        if step.ingest:
            claimed = lease.claim()
            writes.append(Span(claimed.buffer, claimed.start, claimed.start + step.ingest))
            spans = chained(spans, writes[-1])
        after = length + step.ingest + len(lease.drafted)
        branches: tuple[Span, ...] = ()
        if step.draft:
            so_far, slots = lease.draft_slots(len(step.draft))
            writes.append(slots)
            spans = chained(chained(spans, so_far), slots)
        elif step.branches:
            branches = _laid_out(lease, step.branches)
            writes += branches
            for span in branches:
                spans = chained(spans, span)
        self.tokens += lease.ids[length : length + step.ingest] + step.draft
        self.positions += [
            *range(length, length + step.ingest),
            *range(after, after + len(step.draft)),
        ]
        for branch in step.branches:
            self.tokens += branch
            self.positions += range(after, after + len(branch))
        if step.ingest:
            self.wanted.append(start + step.ingest - 1)
        self.wanted += range(start + step.ingest, len(self.tokens))
        self.placed.append(_Placed(step, branches, bool(step.ingest) + step.tokens - step.ingest))
        self.parts.append(self._part(start, tuple(writes), spans, step))

    def _part(
        self, start: int, writes: tuple[Span, ...], spans: tuple[Span, ...], step: Step
    ) -> RowPart:
        positions = torch.tensor(self.positions[start:])
        return RowPart(
            start=start,
            stop=len(self.tokens),
            writes=writes,
            spans=spans,
            positions=positions,
            hidden=_hidden(step),
            device=self._device,
            dtype=self._dtype,
        )


def _own(lease: Lease) -> StoreLease:
    if not isinstance(lease, StoreLease):
        raise TypeError("the lease is of another engine")
    return lease


def _laid_out(lease: StoreLease, branches: tuple[TokenIds, ...]) -> tuple[Span, ...]:
    slots = lease.scratch(sum(map(len, branches)))
    spans, start = [], slots.start
    for branch in branches:
        spans.append(Span(slots.buffer, start, start + len(branch)))
        start += len(branch)
    return tuple(spans)


def _hidden(step: Step) -> torch.Tensor | None:
    """Which of a step's tokens do not see which others, [tokens, tokens]; None for a single one."""
    if step.tokens == 1:
        return None
    hidden = torch.ones(step.tokens, step.tokens, dtype=torch.bool).triu_(1)
    before, start = step.ingest, step.ingest
    for branch in step.branches:
        hidden[start : start + len(branch), before:start] = True
        start += len(branch)
    return hidden


def rows_of(logits: torch.Tensor) -> Rows:
    """Log-probabilities of logits, [rows, vocabulary], with the most probable token of each.

    The best token is taken from the logits as `generate` takes it, so that ties break the same way.
    """
    logits = logits.float()
    best = logits.argmax(-1, keepdim=True)
    logprobs = torch.log_softmax(logits, -1)
    best_logprobs = logprobs.gather(-1, best)
    return Rows(logprobs, tuple(best[:, 0].tolist()), tuple(best_logprobs[:, 0].tolist()))


def checked(rows: Rows) -> Rows | ModelFailure:
    """The rows, unless they are not probabilities."""
    if all(logprob == logprob for logprob in rows.best_logprobs):  # noqa: PLR0124 - NaN is not
        return rows
    return ModelFailure("the model's logits are not numbers")


def _divided(rows: Rows, placed: Sequence[_Placed]) -> list[Outcome]:
    """Each step's rows; its lease moves on if they are sound."""
    outcomes: list[Outcome] = []
    start = 0
    for place in placed:
        outcome = checked(rows.part(start, start + place.wanted))
        start += place.wanted
        if isinstance(outcome, Rows):
            _move_on(place, outcome)
        outcomes.append(outcome)
    return outcomes


def _move_on(place: _Placed, rows: Rows) -> None:
    step = place.step
    lease = _own(step.lease)
    if step.ingest:
        lease.advance(step.ingest, rows[0])
    lease.drafted += step.draft
    last = int(bool(step.ingest)) - 1
    for ids, span in zip(step.branches, place.branches, strict=True):
        last += len(ids)
        lease.keep_branch(ids, span, rows[last])
