"""What a word leads to: how sure anybody is of how its sentence goes on.

Who does not know a fact is as sure of the words before it as who does, and often surer than who
says that it is not known. That shows only where the fact is stated, when those words are committed.
So in a vote on words, each counts by what its draft goes on to say, to the end of its sentence:
beyond that everybody may say something else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from fuser_service.core.candidates import DistinctCandidate, candidate_of
from fuser_service.core.contest import head
from fuser_service.core.state import QueryState
from fuser_service.core.types import Candidate, Evidence, Proposal, Score
from fuser_service.core.words import sentence_end

_UNSURE: Final = math.log(1 / 2)
"""Less than half sure is unsure, however much less: where many words would do, all are."""

_SURE: Final = math.log(0.95)
"""Tokens so probable together count as the surest do where the least sure of them is not known.

Else a long sentence of who is sure would lose against one whose least sure token is known.
"""


class Sureness(NamedTuple):
    """How sure a member is, in nats, of the least sure token of a sentence; the last is largest."""

    maybe_more: bool
    """Whether only a bound is known, near enough to being sure."""
    least: float

    @classmethod
    def of(cls, least: float) -> Sureness:
        """What is known, or held against a sentence."""
        return cls(maybe_more=False, least=least)


def sentences(state: QueryState) -> Iterator[Candidate]:
    """The sentences that the members of this round would go on with, each as far as drafted."""
    for draft in state.round.proposals.values():
        if said := _sentence(draft):
            yield said


def prospects(state: QueryState) -> tuple[float, ...]:
    """For each candidate of the round, in nats, how sure the surest is of what it leads to.

    That is of the least sure token of a sentence, after its first word: at most 0, and no less than
    of what is half sure. A sentence that is whole leaves nothing unsure; where nothing is known of
    what comes after, or only that it is about as sure, it is as for the best.
    """
    known = [max(_of_candidate(state, one), default=None) for one in state.candidates]
    told = [max(_UNSURE, one.least) for one in known if one is not None]
    best = max(told, default=0.0)
    return tuple(
        best if one is None or one.maybe_more else max(_UNSURE, one.least) for one in known
    )


def _sentence(draft: Proposal) -> Candidate | None:
    """A draft to the end of its sentence; that the answer ends with it is another question."""
    return candidate_of(head(draft, sentence_end(draft.text) or len(draft.text)))


def _of_candidate(state: QueryState, distinct: DistinctCandidate) -> Iterator[Sureness]:
    for proposer in distinct.proposers:
        draft = state.round.proposals[proposer]
        said = _sentence(draft)
        if said == distinct.candidate and sentence_end(draft.text):
            yield Sureness.of(0.0)  # the sentence is whole
        if said in (None, distinct.candidate):
            continue
        for member in state.present:
            scores = state.round.scores.get(member, {})
            if said in scores and distinct.candidate in scores:
                yield _sureness(distinct.candidate, scores[distinct.candidate], scores[said])


def _sureness(first: Candidate, of_first: Score, of_sentence: Score) -> Sureness:
    """How sure a member is of what comes after the first word: as said, or otherwise.

    The least sure token costs no more than all of them together, which is all that is known of it
    where the first word has a less sure one.
    """
    if of_first.logprob_sum == -math.inf:
        return Sureness.of(-math.inf)
    together = min(0.0, of_sentence.logprob_sum - of_first.logprob_sum)
    evidence = of_sentence.evidence
    if evidence is None:
        return Sureness.of(together)
    as_said = max(together, min(0.0, evidence.weakest_logprob))
    decided = len(first.text.encode())
    if evidence.weakest_offset < decided and together >= _SURE:
        return Sureness(maybe_more=True, least=as_said)
    if evidence.regret_offset < decided:
        return Sureness.of(as_said)
    return Sureness.of(max(as_said, _otherwise(evidence)))


def _otherwise(evidence: Evidence) -> float:
    """How sure a member is of the token that it would have written instead, or less.

    No distribution has a lower largest probability than e to the power of minus its entropy.
    """
    if evidence.weakest_offset == evidence.regret_offset:
        return min(0.0, evidence.weakest_logprob + evidence.regret_max)
    return -math.inf if evidence.entropy is None else -evidence.entropy
