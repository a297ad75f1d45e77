"""What a call asks of the engine, written as if it ran alone.

A call is a generator: it yields a step, and is sent the resulting rows. What else runs, and
in which forward pass, is the scheduler's concern. Closing a call's generator frees what it holds.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from model_service.backends.text.drafts import DraftedText
from model_service.backends.text.offsets import Offsets
from model_service.backends.text.segments import Ending, SegmentDraft
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.backends.torch.engine.engine import (
    Distribution,
    Engine,
    Lease,
    Rows,
    Step,
    TokenIds,
)
from model_service.backends.torch.engine.forced import (
    Forced,
    forced_as_tree,
    forced_in_rows,
    forced_in_turn,
    joined,
)
from model_service.backends.torch.engine.sampling import choose
from model_service.core.scores import NotAProbability, evidence_of, score_of
from model_service.core.types import (
    Candidate,
    Proposal,
    ProposeRequest,
    Score,
    Scores,
    SegmentFinish,
    Usage,
)
from specfuse.errors import ModelFailure

_TREE_TOKENS = 256
"""Most candidate tokens in one step; it keeps a call with many candidates from stalling others."""


@dataclass(frozen=True, slots=True)
class ProposeCall:
    """A request for a segment, tokenized."""

    request: ProposeRequest
    ids: TokenIds
    tokenizer: SegmentTokenizer

    def run(self, engine: Engine) -> Generator[Step, Rows, Proposal]:
        """Drafts token by token until the limit, the model's end token or a stop string."""
        lease = engine.open(self.ids)
        try:
            return (yield from self._drafted(lease))
        finally:
            lease.close()

    def _drafted(self, lease: Lease) -> Generator[Step, Rows, Proposal]:
        following = yield from _ingested(lease)
        lease.begin_draft(self.request.max_tokens - 1)
        draft = SegmentDraft(self.tokenizer, self.request)
        trail = [following]
        while True:
            token = choose(following, self.request.sampling, len(self.ids) + len(draft))
            ending = draft.take(token)
            if ending is not None:
                return self._proposal(lease, ending, trail)
            rows = yield Step(lease, draft=(token,))
            following = rows[0]
            trail.append(following)

    def _proposal(self, lease: Lease, ending: Ending, trail: list[Distribution]) -> Proposal:
        segment = ending.segment
        count = len(segment.ids)
        if segment.drafted:
            after = trail[count] if count < len(trail) else None
            lease.end_draft(min(count, len(trail) - 1), after)
        return Proposal(
            text=segment.text,
            finish=ending.finish,
            token_count=count,
            usage=Usage(len(self.ids), lease.cached),
            own_score=self._own_score(segment, ending.finish, trail),
        )

    def _own_score(
        self, segment: DraftedText, finish: SegmentFinish, trail: list[Distribution]
    ) -> Score | None:
        """What scoring the segment would say, if the draft was the segment's own encoding."""
        candidate = Candidate(segment.text, finish is SegmentFinish.END)
        ids = segment.ids + (self.tokenizer.end_ids[:1] if candidate.finished else ())
        if not segment.drafted or not ids:
            return None
        offsets = self.tokenizer.offsets(candidate, self.request.context)
        return _score(forced_in_turn(trail, ids), segment.text, offsets)


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """A request to score candidates, tokenized: each candidate's ids, with its end token.

    `offsets` are where in its text they begin.
    """

    candidates: tuple[Candidate, ...]
    ids: TokenIds
    branches: tuple[TokenIds, ...]
    offsets: tuple[Offsets, ...]

    def run(self, engine: Engine) -> Generator[Step, Rows, Scores]:
        """Scores the candidates, as many in one step as fit."""
        lease = engine.open(self.ids)
        try:
            forced = yield from self._forced(lease)
        finally:
            lease.close()
        texts = (candidate.text for candidate in self.candidates)
        return Scores(
            tuple(map(_score, forced, texts, self.offsets)), Usage(len(self.ids), lease.cached)
        )

    def _forced(self, lease: Lease) -> Generator[Step, Rows, list[Forced]]:
        following = lease.following
        forced: list[Forced] = []
        for group in _groups(self.branches):
            if len(group[0]) > _TREE_TOKENS:
                following = following or (yield from _ingested(lease))
                forced.append((yield from _forced_in_pieces(lease, following, group[0])))
                continue
            rows = yield Step(lease, ingest=lease.missing, branches=tuple(group))
            if following is None:
                following, rows = rows[0], rows.part(1, len(rows))
            forced += forced_as_tree(following, rows, group)
        return forced


def _ingested(lease: Lease) -> Generator[Step, Rows, Distribution]:
    """Feeds the missing part of the context; returns what follows it."""
    if lease.following is not None:
        return lease.following
    rows = yield Step(lease, ingest=lease.missing)
    return rows[0]


def _forced_in_pieces(
    lease: Lease, following: Distribution, branch: TokenIds
) -> Generator[Step, Rows, Forced]:
    """What is said of one long alternative, fed piece by piece."""
    parts = [forced_in_turn([following], branch[:1])]
    lease.begin_draft(len(branch) - 1)
    for start in range(0, len(branch) - 1, _TREE_TOKENS):
        piece = branch[start : min(start + _TREE_TOKENS, len(branch) - 1)]
        rows = yield Step(lease, draft=piece)
        parts.append(forced_in_rows(rows, branch[start + 1 : start + 1 + len(piece)]))
    lease.end_draft(0, None)
    return joined(parts)


def _groups(branches: tuple[TokenIds, ...]) -> list[list[TokenIds]]:
    """The branches in order, in groups of at most `_TREE_TOKENS` tokens, or of one branch."""
    groups: list[list[TokenIds]] = []
    room = 0
    for branch in branches:
        if len(branch) > room:
            groups.append([])
            room = _TREE_TOKENS
        groups[-1].append(branch)
        room -= len(branch)
    return groups


def _score(forced: Forced, text: str, offsets: Offsets) -> Score:
    try:
        evidence = evidence_of(forced.logprobs, forced.best, offsets, forced.entropy)
        return score_of(forced.logprobs, text, evidence)
    except NotAProbability as error:
        raise ModelFailure(str(error)) from error
