"""The rounds of a query, as a pure state machine: (state, results) -> (state, next step).

    start ──► Propose ──► proposed ──┬─► Verify ──► scored ─┬─► Propose   the next round
                  ▲                  │ consensus            ├─► Finish
                  │                  └──────────────────────┤
                  └──────────────── members come back ◄─────┘   (or too few answered: LoseQuorum)

The caller performs each step and passes every asked member's result to `proposed` or `scored`: an
answer, or why there is none. No function here does I/O, reads a clock or draws a random number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from fuser_service.core.attendance import with_proposals, with_scores
from fuser_service.core.commit import Commit, committed, finish_reason
from fuser_service.core.contest import contested
from fuser_service.core.exits import falters, recalls
from fuser_service.core.objections import Hearing, hearing
from fuser_service.core.rules import Rules, Vote
from fuser_service.core.state import QueryState, RoundState
from fuser_service.core.steps import Finish, LoseQuorum, Propose, Relief, Result, Step, Verify
from fuser_service.core.stops import StopScanner
from fuser_service.core.types import FinishReason, MemberName, Proposal, Score
from fuser_service.core.verdict import (
    Verdict,
    by_vote,
    missing,
    to_be_scored,
    verifiers,
    without_vote,
)
from fuser_service.core.weights import Weights

_MOST_DOUBLINGS: Final = 16
"""More than any `stretch_tokens` needs."""


@dataclass(frozen=True, slots=True)
class Transition:
    """The state, what to do next, and the round that was committed on the way, if one was."""

    state: QueryState
    step: Step
    commit: Commit | None = None


def start(
    rules: Rules, committed_segments: tuple[str, ...] = (), committed_tokens: int = 0
) -> Transition:
    """Begins a query, or goes on with one from its committed segments.

    The segments determine which text is held back. If they already complete a stop string, or reach
    a limit of the answer, it ends at once. Weights, quality and exits start afresh.
    """
    state = QueryState(
        rules=rules,
        committed=committed_segments,
        committed_tokens=committed_tokens,
        committed_bytes=sum(len(segment.encode()) for segment in committed_segments),
        scanner=StopScanner(rules.stop).after(committed_segments),
        active=rules.members,
        weights=Weights.uniform(rules.members),
        quality=dict.fromkeys(rules.members, 0.0),
        round=RoundState(number=0),
        watching=rules.watching_at_first,
    )
    if reason := finish_reason(state):
        return _finish(state, reason)
    return _next_round(state)


def proposed(
    state: QueryState, asked: Propose, results: Mapping[MemberName, Result[Proposal]]
) -> Transition:
    """Goes on from the proposals of the asked members, and of those that relieved them.

    If nobody has anything to propose, members that left come back and are asked as well. If even
    they have nothing, the answer ends with LENGTH: it cannot go on within the segment's tokens, and
    no member said that it is complete.
    """
    state = with_proposals(state, asked, results)
    if _lacks_quorum(state, state.present):
        return _lose_quorum(state, state.present)
    if not state.candidates:
        if state.watchers:
            return _propose(state, state.watchers)
        return _come_back(state) if state.dormant else _finish(state, FinishReason.LENGTH)
    return _vote(state)


def scored(
    state: QueryState,
    asked: Verify,
    results: Mapping[MemberName, Result[tuple[Score, ...]]],
) -> Transition:
    """Goes on from the scores of the asked members."""
    return _judge(with_scores(state, asked, results))


def if_all_agree(state: QueryState) -> Transition | None:
    """What follows if nobody objects to what is being judged.

    None if that is more than one draft, or if somebody is known to object already.
    """
    if len(state.candidates) != 1:
        return None
    verdict = without_vote(state)
    heard = hearing(state, verdict)
    return _commit(state, verdict) if heard == Hearing(verdict) else None


def _judge(state: QueryState) -> Transition:
    if len(state.candidates) == 1:
        heard = state.in_order({*state.round.proposals, *state.round.scores})
        if _lacks_quorum(state, heard):  # too few of those that watch answered
            return _lose_quorum(state, heard)
        return _decide(state, without_vote(state))
    answered = verifiers(state)
    if _lacks_quorum(state, answered):
        return _lose_quorum(state, answered)
    if not answered:
        return _come_back(state)
    return _decide(state, by_vote(state, answered))


def _next_round(state: QueryState) -> Transition:
    number = state.round.number + 1
    state = replace(state, round=RoundState(number, departures_before=len(state.departures)))
    state = state.welcoming_back()
    if _lacks_quorum(state, state.active):
        return _lose_quorum(state, state.active)
    if not state.active:
        return _come_back(state)
    return _draft(state)


def _draft(state: QueryState) -> Transition:
    """Asks those that draft and have no draft left; the others listen."""
    drafting = state.drafting or state.active
    kept = {
        m: d
        for m, d in state.drafts.items()
        if m in drafting and d.token_count <= state.tokens_left
    }
    listening = frozenset(state.active) - set(drafting)
    if len(kept) == len(drafting) and not listening and len(contested(kept)) < 2:  # noqa: PLR2004
        kept = {}  # nobody is left to judge it
    if kept or listening:
        candidates = state.deciding_between(kept)
        state = replace(
            state,
            round=replace(state.round, proposals=kept, candidates=candidates, listening=listening),
        )
    asked = tuple(m for m in drafting if m not in kept)
    return _propose(state, asked) if asked else _vote(state)


def _come_back(state: QueryState) -> Transition:
    """Asks the members that left, and only them, to propose for this round as well."""
    members = state.dormant
    return _propose(state.recalling(), members)


def _propose(state: QueryState, members: tuple[MemberName, ...]) -> Transition:
    max_tokens = min(_segment_tokens(state), state.tokens_left)
    required = _required(state, members)
    others = tuple(member for member in state.watchers if member not in members)
    standing_by = bool(others or {*state.dormant} - {*members})
    relief = None
    if others and not state.candidates:  # with a draft to go on with, nobody has to be relieved
        relief = Relief(others, _required(state, (*members, *others)))
    return Transition(state, Propose(members, max_tokens, required, standing_by, relief))


def _segment_tokens(state: QueryState) -> int:
    """How much is drafted at a time: the more, the longer all have agreed with who drafts alone.

    Whoever is asked because of an objection, or as others have nothing to say, drafts no more than
    usual.
    """
    rules = state.rules
    if state.round.asked_to_propose or state.candidates:
        return rules.segment_tokens
    doublings = min(state.agreed, _MOST_DOUBLINGS)
    return max(rules.segment_tokens, min(rules.segment_tokens << doublings, rules.stretch_tokens))


def _vote(state: QueryState) -> Transition:
    """Asks for the scores that are needed.

    A round of nothing but drafts that were left asks somebody at least, even with `fast_finish`: a
    step commits no more than one round.
    """
    candidates = state.candidates
    finished = [i for i, distinct in enumerate(candidates) if distinct.candidate.finished]
    if finished and state.rules.fast_finish and state.round.asked_to_propose:
        return _commit(state, without_vote(state, winner=finished[0]))
    asked = _judges(state)
    if not asked:
        return _agree(state)
    wanted = to_be_scored(state)
    assignments = {m: unscored for m in asked if (unscored := missing(state, m, wanted))}
    if not assignments:
        return _judge(state)
    required = _required(state, assignments)
    return Transition(state, Verify(assignments, required, bool(state.dormant)))


def _judges(state: QueryState) -> tuple[MemberName, ...]:
    """The members to judge. A single candidate those do that watch: whoever drafts agrees."""
    if len(state.candidates) > 1:
        return state.present
    return state.watchers


def _agree(state: QueryState) -> Transition:
    """Commits the only candidate, without a vote.

    While members might be called back, its confidence must be known. If it did not come with the
    proposals, one of its proposers is asked for it: the first by name, as the order of the members
    must not matter here.
    """
    verdict = without_vote(state)
    only = verdict.winning
    proposers = [member for member in only.proposers if member in state.present]
    if _may_recall(state) and verdict.confidence is None and proposers:
        step = Verify({min(proposers): (only.candidate,)}, required=1, standing_by=True)
        return Transition(state, step)
    return _decide(state, verdict)


def _decide(state: QueryState, verdict: Verdict) -> Transition:
    ratio = state.rules.exit.recall_ratio
    if _may_recall(state) and falters(verdict.confidence, state.confidences, ratio):
        return _come_back(state)
    if state.rules.vote is Vote.SEGMENTS:
        return _commit(state, verdict)
    heard = hearing(state, verdict)
    if heard.uncertain and heard.left:
        assignments = dict.fromkeys(heard.uncertain, (heard.left,))
        required = _required(state, assignments)
        return Transition(state, Verify(assignments, required, bool(state.dormant)))
    state = state.hearing_out(heard.objectors)
    if heard.left is None:
        return _propose(state, heard.objectors)
    return _commit(state, heard.verdict)


def _commit(state: QueryState, verdict: Verdict) -> Transition:
    state, commit, reason = committed(state, verdict)
    following = _finish(state, reason) if reason else _next_round(state)
    taken_up = following.state.round.proposals
    dropped = {m: draft.token_count for m, draft in state.drafts.items() if m not in taken_up}
    commit = commit.discarding(dropped) if dropped else commit
    return Transition(following.state, following.step, commit)


def _finish(state: QueryState, reason: FinishReason) -> Transition:
    return Transition(state, Finish(reason, state.scanner.held))


def _lose_quorum(state: QueryState, members: tuple[MemberName, ...]) -> Transition:
    if _outgrew_its_members(state):
        return _finish(state, FinishReason.LENGTH)
    return Transition(state, LoseQuorum(present=len(members), quorum=state.rules.quorum))


def _outgrew_its_members(state: QueryState) -> bool:
    """Whether the answer ends only because the context outgrew members' windows in this round.

    Not in the first round: a prompt, or an answer to be resumed, that does not fit is a mistake.
    """
    now_lost = {departure.member for departure in state.departures[state.round.departures_before :]}
    outgrown = bool(now_lost) and now_lost <= state.outgrown
    return outgrown and state.round.number > 1 and not state.round.absent


def _may_recall(state: QueryState) -> bool:
    return bool(state.dormant) and recalls(state.rules.exit)


def _lacks_quorum(state: QueryState, members: tuple[MemberName, ...]) -> bool:
    """Whether too few answered. Members that left early stand by and count as present."""
    return len(members) + len(state.dormant) < max(1, state.rules.quorum)


def _required(state: QueryState, asked: Collection[MemberName]) -> int:
    """How many of those asked make a quorum, with all that have answered or stand by."""
    round_ = state.round
    answered = {m for m in state.present if m in round_.proposals or round_.scores.get(m)}
    others = len(state.dormant) + len(answered - {*asked})
    return min(len(asked), max(1, state.rules.quorum - others))
