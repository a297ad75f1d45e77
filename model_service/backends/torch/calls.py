"""What a call asks of the engine, written as if it ran alone.

A call is a generator: it yields a step, and is sent the resulting rows. What else runs, and
in which forward pass, is the scheduler's concern. Closing a call's generator frees what it holds.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch

from model_service.backends.text.drafts import DraftedText
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
from model_service.backends.torch.engine.sampling import choose
from model_service.core.scores import NotAProbability, score_of
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
        ids = segment.ids + (self.tokenizer.end_ids[:1] if finish is SegmentFinish.END else ())
        if not segment.drafted or not ids:
            return None
        logprobs = [
            _logprob(distribution, token) for distribution, token in zip(trail, ids, strict=False)
        ]
        return _score(logprobs, segment.text)


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """A request to score candidates, tokenized: each candidate's ids, with its end token."""

    candidates: tuple[Candidate, ...]
    ids: TokenIds
    branches: tuple[TokenIds, ...]

    def run(self, engine: Engine) -> Generator[Step, Rows, Scores]:
        """Scores the candidates, as many in one step as fit."""
        lease = engine.open(self.ids)
        try:
            logprobs = yield from self._scored(lease)
        finally:
            lease.close()
        return Scores(
            tuple(
                _score(scored, candidate.text)
                for scored, candidate in zip(logprobs, self.candidates, strict=True)
            ),
            Usage(len(self.ids), lease.cached),
        )

    def _scored(self, lease: Lease) -> Generator[Step, Rows, list[list[float]]]:
        following = lease.following
        logprobs: list[list[float]] = []
        for group in _groups(self.branches):
            if len(group[0]) > _TREE_TOKENS:
                following = following or (yield from _ingested(lease))
                logprobs.append((yield from _scored_in_pieces(lease, following, group[0])))
                continue
            rows = yield Step(lease, ingest=lease.missing, branches=tuple(group))
            if following is None:
                following, rows = rows[0], rows.part(1, len(rows))
            logprobs += _scored_as_tree(following, rows, group)
        return logprobs


def _ingested(lease: Lease) -> Generator[Step, Rows, Distribution]:
    """Feeds the missing part of the context; returns what follows it."""
    if lease.following is not None:
        return lease.following
    rows = yield Step(lease, ingest=lease.missing)
    return rows[0]


def _scored_as_tree(
    following: Distribution, rows: Rows, branches: list[TokenIds]
) -> list[list[float]]:
    """The log-probabilities of alternatives, from the rows of all their tokens.

    A branch's last token is judged by the one before it, but is fed as well: it may become context.
    """
    logprobs, start = [], 0
    for branch in branches:
        part = rows.part(start, start + len(branch) - 1)
        logprobs.append([_logprob(following, branch[0]), *_chosen(part, branch[1:])])
        start += len(branch)
    return logprobs


def _scored_in_pieces(
    lease: Lease, following: Distribution, branch: TokenIds
) -> Generator[Step, Rows, list[float]]:
    """The log-probabilities of one long alternative, fed piece by piece."""
    logprobs = [_logprob(following, branch[0])]
    lease.begin_draft(len(branch) - 1)
    for start in range(0, len(branch) - 1, _TREE_TOKENS):
        piece = branch[start : min(start + _TREE_TOKENS, len(branch) - 1)]
        rows = yield Step(lease, draft=piece)
        logprobs += _chosen(rows, branch[start + 1 : start + 1 + len(piece)])
    lease.end_draft(0, None)
    return logprobs


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


def _logprob(distribution: Distribution, token: int) -> float:
    return float(distribution.logprobs[token])


def _chosen(rows: Rows, ids: TokenIds) -> list[float]:
    """Row by row, the log-probability of that row's token."""
    if not ids:
        return []
    index = torch.tensor(ids, device=rows.logprobs.device)
    chosen: list[float] = rows.logprobs.gather(1, index[:, None])[:, 0].tolist()
    return chosen


def _score(logprobs: list[float], text: str) -> Score:
    try:
        return score_of(logprobs, text)
    except NotAProbability as error:
        raise ModelFailure(str(error)) from error
