"""Objections: who is of another mind than the winner's draft, and from where on.

Whoever is sure of something else is always heard. Where nobody is sure of all that a draft says, so
is whoever would begin one of its sentences otherwise, sure or not: to say that it is not known, or
something else, is as good as any guess, and once a sentence has begun it is too late for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from fuser_service.core.candidates import candidate_of
from fuser_service.core.contest import head
from fuser_service.core.rules import ObjectionRules
from fuser_service.core.state import QueryState
from fuser_service.core.types import (
    Candidate,
    Disagreement,
    Evidence,
    MemberName,
    Score,
    SegmentFinish,
)
from fuser_service.core.verdict import Verdict
from fuser_service.core.words import begins_sentence, first_word, word_start

_SURE: Final = math.log(0.8)
"""Who gives each token of a draft so much, in nats, is sure of it."""


@dataclass(frozen=True, slots=True)
class Objection:
    """A member, and from where on, in characters, it would write something else.

    `heard` says that it drafted in this round and lost there.
    """

    member: MemberName
    at: int
    heard: bool = False


@dataclass(frozen=True, slots=True)
class Hearing:
    """A verdict up to the first objections, and the members that have yet to be heard on it.

    `uncertain` are those of which it is not known whether they object to what is left as well.
    """

    verdict: Verdict
    objectors: tuple[MemberName, ...] = ()
    uncertain: tuple[MemberName, ...] = ()

    @property
    def left(self) -> Candidate | None:
        """What is left of the draft; None if the objections are to all of it."""
        return candidate_of(self.verdict.draft)


def hearing(state: QueryState, verdict: Verdict) -> Hearing:
    """What is left of a verdict once all who judged its draft have been asked for objections.

    Members tell of their largest regrets only. If the draft is cut, whoever may have had others has
    to judge what is left; all others object to nothing before the first of those told.
    """
    heard = Hearing(verdict)
    judged = _Judged(state, verdict, _is_doubtful(state, verdict))
    while objections := tuple(judged.objections()):
        cut = min(objection.at for objection in objections)
        objectors = tuple(o.member for o in objections if o.at == cut and not o.heard)
        shorter = replace(heard.verdict, draft=head(heard.verdict.draft, cut))
        heard = Hearing(shorter, objectors)
        left, scores = heard.left, state.round.scores
        unknown = (m for m in judged.hiding() if left and left not in scores.get(m, {}))
        if uncertain := tuple(unknown):
            return replace(heard, uncertain=uncertain)
        judged = _Judged(state, shorter, doubtful=False)
    return heard


def objects(place: Disagreement, rules: ObjectionRules) -> bool:
    """Whether a member that disagrees here objects: it is of another mind, and confident."""
    return place.regret >= rules.regret and _is_confident(place, rules)


def _word_at(text: str, offset: int) -> int:
    """Where the word begins, in characters, to which this byte belongs; the text's end is one."""
    before = text.encode()[:offset].decode(errors="ignore")
    return word_start(text, len(before)) if len(before) < len(text) else len(text)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A verdict's draft, and what the members make of it. It is `doubtful` if nobody is sure."""

    state: QueryState
    verdict: Verdict
    doubtful: bool

    def objections(self) -> Iterator[Objection]:
        """The first objection of each member to the draft."""
        ends = self.verdict.draft.finish is SegmentFinish.END
        for member, score in self._scores():
            objection = self._objection(member, score.evidence)
            if objection and (ends or objection.at < len(self.verdict.draft.text)):
                yield objection

    def hiding(self) -> Iterator[MemberName]:
        """The members that may object in more places than they tell of."""
        regret = self.state.rules.objections.regret
        for member, score in self._scores():
            if score.evidence and score.evidence.hides(regret):
                yield member

    def _scores(self) -> Iterator[tuple[MemberName, Score]]:
        """The scores of the members present that judged the draft: its proposers agree with it."""
        draft = candidate_of(self.verdict.draft)
        for member in self.state.present:
            score = self.state.round.scores.get(member, {}).get(draft) if draft else None
            if score and member not in self.verdict.winning.proposers:
                yield member, score

    def _objection(self, member: MemberName, evidence: Evidence | None) -> Objection | None:
        """What a member objects to first, if it does.

        One that drafted in this round had its say on the first word. If it may object to more than
        it tells of, what it makes of the rest is not known, and has to be judged anew. One that
        neither drafted nor gives evidence can only be heard by what it drafts.
        """
        text = self.verdict.draft.text
        drafted = member in self.state.round.proposals
        if evidence is None:
            return None if drafted else Objection(member, 0)
        decided = first_word(text)
        for place in sorted(evidence.places, key=lambda place: place.offset):
            at = _word_at(text, place.offset)
            had_its_say = drafted and (at < decided or not text)
            if not had_its_say and self._objects(place, text[:at]):
                return Objection(member, at)
        if drafted and text and evidence.hides(self.state.rules.objections.regret):
            return Objection(member, decided, heard=True)
        return None

    def _objects(self, place: Disagreement, before: str) -> bool:
        """Whether a member that disagrees in this place, after that text, objects."""
        if objects(place, self.state.rules.objections):
            return True
        return self.doubtful and place.regret > 0 and self._begins_sentence(before)

    def _begins_sentence(self, before: str) -> bool:
        committed = self.state.committed
        first = next((at for at in reversed(range(len(committed))) if committed[at].strip()), 0)
        return begins_sentence("".join(committed[first:]) + before)


def _is_doubtful(state: QueryState, verdict: Verdict) -> bool:
    """Whether nobody is known to be sure of all of the draft, where that is asked at all."""
    draft = candidate_of(verdict.draft)
    scores = (state.round.scores.get(member, {}).get(draft) for member in state.present if draft)
    weakest = [one.evidence.weakest_logprob for one in scores if one and one.evidence]
    return state.rules.foresight > 0 and bool(weakest) and max(weakest) < _SURE


def _is_confident(place: Disagreement, rules: ObjectionRules) -> bool:
    """Where the entropy is not told, the best token's own share of it must be small.

    If not even that token's probability is, the member is heard: that costs tokens, not answers.
    """
    if place.entropy is not None:
        return place.entropy <= rules.entropy
    best = place.best_logprob
    return best is None or (-best * math.exp(best) <= rules.entropy and best >= -rules.entropy)
