"""Objections: who is confidently of another mind than the winner's draft, and from where on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fuser_service.core.candidates import candidate_of
from fuser_service.core.contest import head
from fuser_service.core.rules import ObjectionRules
from fuser_service.core.state import QueryState
from fuser_service.core.types import Candidate, Evidence, MemberName, SegmentFinish
from fuser_service.core.verdict import Verdict
from fuser_service.core.words import first_word, word_start


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

    A member's evidence tells of its largest regret alone. If the draft is cut before that, it may
    have had others, so it has to judge what is left.
    """
    heard = Hearing(verdict)
    while objections := tuple(_objections(state, heard.verdict)):
        cut = min(objection.at for objection in objections)
        objectors = tuple(o.member for o in objections if o.at == cut and not o.heard)
        beyond = _of_another_mind(state, heard.verdict)
        shorter = replace(heard.verdict, draft=head(heard.verdict.draft, cut))
        heard = Hearing(shorter, objectors)
        left = heard.left
        unknown = (m for m in beyond if left and left not in state.round.scores.get(m, {}))
        if uncertain := tuple(unknown):
            return replace(heard, uncertain=uncertain)
    return heard


def _of_another_mind(state: QueryState, verdict: Verdict) -> Iterator[MemberName]:
    """The members that would have written something else somewhere, sure of it or not."""
    for member, evidence in _evidence(state, verdict):
        if evidence.regret_max >= state.rules.objections.regret:
            yield member


def _objections(state: QueryState, verdict: Verdict) -> Iterator[Objection]:
    """Objections to the draft."""
    ends = verdict.draft.finish is SegmentFinish.END
    for member, evidence in _evidence(state, verdict):
        objection = _objection(state, verdict, member, evidence)
        if objection and (ends or objection.at < len(verdict.draft.text)):
            yield objection


def _evidence(state: QueryState, verdict: Verdict) -> Iterator[tuple[MemberName, Evidence]]:
    """The evidence of the members present that scored the draft. Its proposers have none."""
    draft = candidate_of(verdict.draft)
    for member in state.present:
        score = state.round.scores.get(member, {}).get(draft) if draft else None
        if score and score.evidence and member not in verdict.winning.proposers:
            yield member, score.evidence


def _objection(
    state: QueryState, verdict: Verdict, member: MemberName, evidence: Evidence
) -> Objection | None:
    """What a member objects to, if it does.

    Only its largest regret is known. If that is over the first word, and it drafted in this round,
    then it had its say; what it makes of the rest is not known, and has to be judged anew.
    """
    text = verdict.draft.text
    at = place(text, evidence)
    decided = first_word(text)
    if member in state.round.proposals and (at < decided or not text):
        hides_others = bool(text) and evidence.regret_max >= state.rules.objections.regret
        return Objection(member, decided, heard=True) if hides_others else None
    return Objection(member, at) if objects(evidence, state.rules.objections) else None


def objects(evidence: Evidence, rules: ObjectionRules) -> bool:
    """Whether a member whose evidence this is objects: it is of another mind, and confident."""
    return evidence.regret_max >= rules.regret and _is_confident(evidence, rules)


def place(text: str, evidence: Evidence) -> int:
    """Where the word begins, in characters, at which the evidence disagrees most with the text.

    The end of the text if it is that the answer ends there.
    """
    before = text.encode()[: evidence.regret_offset].decode(errors="ignore")
    return word_start(text, len(before)) if len(before) < len(text) else len(text)


def _is_confident(evidence: Evidence, rules: ObjectionRules) -> bool:
    """Where a backend cannot tell the entropy, the best token's own share of it must be small.

    That token's probability is known where the least probable token is the one most regretted.
    Where it is not, the member is heard: that costs tokens, not answers.
    """
    if evidence.entropy is not None:
        return evidence.entropy <= rules.entropy
    if evidence.weakest_offset != evidence.regret_offset:
        return True
    best = min(0.0, evidence.weakest_logprob + evidence.regret_max)
    return -best * math.exp(best) <= rules.entropy and best >= -rules.entropy
