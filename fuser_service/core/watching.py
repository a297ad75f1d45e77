"""Who drafts and who watches after a round, where members that do not win stop drafting.

Whoever wrote the segment goes on drafting, alone unless somebody objected. The others watch: they
judge each draft, in one pass instead of one per token, and are heard when they object.
"""

from __future__ import annotations

from dataclasses import replace

from fuser_service.core.contest import rest
from fuser_service.core.state import QueryState
from fuser_service.core.types import Candidate, MemberName


def keeping_drafts(state: QueryState, committed: Candidate) -> QueryState:
    """The state with what is left of all drafts that the answer has gone along with so far."""
    rests = {m: rest(draft, committed) for m, draft in state.round.proposals.items()}
    drafts = {m: left for m, left in rests.items() if left and m in state.active}
    return replace(state, drafts=drafts)


def watching(state: QueryState, winners: tuple[MemberName, ...]) -> QueryState:
    """The state in which one of the winners goes on drafting, and whoever has yet to be heard.

    Of several winners it is one that has a draft left; of these the first by name, as the order of
    the members must not matter. A member that gives no evidence cannot object, so it cannot watch.
    """
    leaders = sorted(
        (m for m in winners if m in state.active), key=lambda m: (m not in state.drafts, m)
    )
    drafting = {*leaders[:1], *state.round.unheard, *_without_evidence(state)}
    watching = frozenset(state.active) - drafting
    watched = state.round.listening - state.round.proposals.keys() - state.round.objected
    silent = {m: state.silent.get(m, 0) + 1 if m in watched else 0 for m in watching}
    drafts = {m: draft for m, draft in state.drafts.items() if m in drafting}
    agreed = state.agreed + 1 if _all_agreed(state) else 0
    return replace(state, watching=watching, silent=silent, drafts=drafts, agreed=agreed)


def _all_agreed(state: QueryState) -> bool:
    """Whether the round had one draft, which nobody objected to, and which is spent now."""
    round_ = state.round
    return len(round_.proposals) == 1 and not round_.objected and not state.drafts


def out_of_patience(state: QueryState) -> tuple[MemberName, ...]:
    """The members that have watched long without a word, in the ensemble's order.

    Of too many, those that have for longest; of these the first by name.
    """
    rules = state.rules.exit
    spare = max(0, len(state.active) - max(1, rules.min_models))
    if state.quality_rounds < rules.min_rounds:
        return ()
    waiting = sorted(state.silent.items(), key=lambda entry: (-entry[1], entry[0]))
    return state.in_order([m for m, rounds in waiting if rounds >= rules.patience][:spare])


def _without_evidence(state: QueryState) -> set[MemberName]:
    """The active members that are not known to give evidence: nor in this round, nor before."""
    told = {
        member: any(score.evidence is not None for score in scores.values())
        for member, scores in state.round.scores.items()
        if scores
    }
    return {member for member in state.active if not told.get(member, member in state.watching)}
