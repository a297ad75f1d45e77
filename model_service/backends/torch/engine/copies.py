"""The fallback engine: transformers' own caches, copied where a step must not change them.

For models that the packed engine cannot run: state-space hybrids, position biases of their own,
attention that does not use the interface. Every sequence has a forward pass to itself. Where even
a copied cache does not give the right numbers, the context is computed anew in every step.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from model_service.backends.torch.engine.engine import Distribution, Outcome, Rows, Step, TokenIds
from model_service.backends.torch.engine.memory import failure_of
from model_service.backends.torch.engine.packed import checked, rows_of


class Past:
    """What a model remembers of the tokens fed so far."""

    __slots__ = ("cache", "ids")

    def __init__(self, ids: TokenIds = (), cache: object = None) -> None:
        self.ids = ids
        self.cache = cache

    def copied(self) -> Past:
        """An independent copy."""
        return Past(self.ids, copy.deepcopy(self.cache))

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return _nbytes(self.cache, set())


class CopiesEngine:
    """Runs steps one at a time, on copies of caches."""

    scores_trees = False
    longest_context = None

    def __init__(
        self,
        model: PreTrainedModel,
        budget_bytes: int,
        on_change: Callable[[int, int], None],
        *,
        caches_prefixes: bool = True,
    ) -> None:
        """`on_change` is told the bytes used and the number of contexts after every change."""
        self.caches_prefixes = caches_prefixes
        self._model = model
        self._budget = budget_bytes
        self._on_change = on_change
        self._kept: OrderedDict[TokenIds, tuple[Past, Distribution, int]] = OrderedDict()
        self._used = 0

    def open(self, ids: TokenIds) -> CopiesLease:
        """A lease on the longest kept context that begins this one."""
        beginnings = [known for known in self._kept if ids[: len(known)] == known]
        if not beginnings:
            return CopiesLease(self, ids, Past(), None)
        longest = max(beginnings, key=len)
        self._kept.move_to_end(longest)
        past, following, _ = self._kept[longest]
        return CopiesLease(self, ids, past, following if longest == ids else None)

    def keep(self, past: Past, following: Distribution) -> None:
        """Keeps a context, which must not change any more, and forgets others to make room."""
        nbytes = past.nbytes + following.logprobs.nbytes
        if not self.caches_prefixes or past.ids in self._kept or nbytes > self._budget:
            return
        while self._used + nbytes > self._budget:
            _, (_, _, freed) = self._kept.popitem(last=False)
            self._used -= freed
        self._kept[past.ids] = (past, following.kept(), nbytes)
        self._used += nbytes
        self._on_change(self._used, len(self._kept))

    def clear(self) -> None:
        """Forgets all kept contexts."""
        self._kept.clear()
        self._used = 0
        self._on_change(0, 0)

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Runs the steps one after the other and moves their leases on."""
        return [self._outcome(step) for step in steps]

    def close(self) -> None:
        """There is nothing to end."""

    def _outcome(self, step: Step) -> Outcome:
        try:
            return checked(self._run(step))
        except Exception as error:  # noqa: BLE001 - whatever the model raises is this step's failure
            return failure_of(error)

    def _run(self, step: Step) -> Rows:
        lease = step.lease
        if not isinstance(lease, CopiesLease):
            raise TypeError("the lease is of another engine")
        rows = []
        if step.ingest:
            rows.append(self._ingested(lease, step.ingest))
        if step.draft:
            rows.append(self.feed(lease.draft, step.draft))
        rows += [self.feed(lease.past.copied(), branch) for branch in step.branches]
        return _joined(rows)

    def _ingested(self, lease: CopiesLease, count: int) -> Rows:
        past = lease.past.copied() if lease.shared else lease.past
        rows = self.feed(past, lease.ids[len(past.ids) : len(past.ids) + count])
        last = rows.part(count - 1, count)
        lease.past, lease.shared = past, False
        if len(past.ids) == len(lease.ids):
            lease.following = last[0]
            lease.shared = True
            if isinstance(checked(last), Rows):
                self.keep(past, last[0])
        return last

    @torch.inference_mode()
    def feed(self, past: Past, ids: TokenIds) -> Rows:
        """Feeds tokens after a past, which changes; a row for each."""
        fed = ids if self.caches_prefixes else past.ids + ids
        output = self._model(
            input_ids=torch.tensor([fed], device=self._model.device),
            past_key_values=past.cache,
            use_cache=self.caches_prefixes,
        )
        if self.caches_prefixes:
            past.cache = output.past_key_values
        past.ids += ids
        return rows_of(output.logits[0, -len(ids) :])


class CopiesLease:
    """A call's hold on a past. A shared past is copied before it changes."""

    def __init__(
        self, engine: CopiesEngine, ids: TokenIds, past: Past, following: Distribution | None
    ) -> None:
        self.ids = ids
        self.cached = len(past.ids)
        self.past = past
        self.shared = True
        self.following = following
        self.draft = Past()
        self._engine = engine

    @property
    def missing(self) -> int:
        """How many tokens of the context are still to be fed."""
        return len(self.ids) - len(self.past.ids)

    def begin_draft(self, capacity: int) -> None:
        """Prepares for tokens after the context."""
        del capacity
        self.draft = self.past.copied()

    def end_draft(self, keep: int, following: Distribution | None) -> None:
        """Ends the draft. It is kept as a context if exactly all of it is likely to become one."""
        if following is not None and len(self.ids) + keep == len(self.draft.ids):
            self._engine.keep(self.draft, following)
        self.draft = Past()

    def close(self) -> None:
        """Lets go of everything. Idempotent."""
        self.past = self.draft = Past()


def _joined(rows: list[Rows]) -> Rows:
    return Rows(
        torch.cat([part.logprobs for part in rows]),
        tuple(best for part in rows for best in part.best),
        tuple(logprob for part in rows for logprob in part.best_logprobs),
    )


def _nbytes(thing: object, seen: set[int]) -> int:
    """Bytes of all tensors reachable from a cache object."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return thing.nbytes
    if isinstance(thing, dict):
        return sum(_nbytes(part, seen) for part in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(_nbytes(part, seen) for part in thing)
    return sum(_nbytes(part, seen) for part in getattr(thing, "__dict__", {}).values())
