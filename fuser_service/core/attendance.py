"""Who answered and who did not: results become part of the state, never exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fuser_service.core.candidates import candidate_of
from fuser_service.core.state import QueryState
from fuser_service.core.steps import Busy, Failed, Late, Ok, Propose, Refused, Result, Verify
from fuser_service.core.types import (
    Candidate,
    Departure,
    DepartureReason,
    Disagreement,
    Evidence,
    MemberName,
    Proposal,
    Score,
)

Answer = TypeVar("Answer")

ROUNDING = 1e-3
"""How far above 1 half-precision arithmetic may put a probability."""

MOST_PLACES = 16
"""Most further places that evidence may name."""


def with_proposals(
    state: QueryState, asked: Propose, results: Mapping[MemberName, Result[Proposal]]
) -> QueryState:
    """The state with these proposals, and with each proposer's own score if it came along."""
    relief = asked.relief.members if asked.relief else ()
    members = (*asked.members, *(member for member in relief if member in results))
    checked = {member: _checked(results[member], _problem_with_proposal) for member in members}
    state, proposals = _attended(state, checked)
    before = state.round
    scores = {
        member: {**before.scores.get(member, {}), **_own_score(proposal)}
        for member, proposal in proposals.items()
    }
    drafted = _ordered(state, {**before.proposals, **proposals})
    return replace(
        state,
        round=replace(
            before,
            proposals=drafted,
            candidates=state.deciding_between(drafted),
            scores=_ordered(state, {**before.scores, **scores}),
            asked_to_propose=before.asked_to_propose | set(members),
        ),
    )


def _own_score(proposal: Proposal) -> dict[Candidate, Score]:
    candidate = candidate_of(proposal)
    return {candidate: proposal.own_score} if candidate and proposal.own_score else {}


def with_scores(
    state: QueryState,
    asked: Verify,
    results: Mapping[MemberName, Result[tuple[Score, ...]]],
) -> QueryState:
    """The state with these scores."""
    checked = {
        member: _checked(results[member], partial(_problem_with_scores, candidates=candidates))
        for member, candidates in asked.assignments.items()
    }
    state, answers = _attended(state, checked)
    before = state.round
    scores = {
        member: {
            **before.scores.get(member, {}),
            **dict(zip(asked.assignments[member], given, strict=True)),
        }
        for member, given in answers.items()
    }
    return replace(
        state,
        round=replace(
            before,
            scores=_ordered(state, {**before.scores, **scores}),
            asked_to_score=before.asked_to_score | asked.assignments.keys(),
        ),
    )


def _attended(
    state: QueryState, results: Mapping[MemberName, Result[Answer]]
) -> tuple[QueryState, dict[MemberName, Answer]]:
    """The state after failures, refusals and absences, and the answers of the others.

    A failure or refusal loses the member at once, lateness when it comes to `max_misses` rounds; if
    it could not be reached, a later round asks it again. A
    busy member kept nobody waiting, so that is never held against it. What a lost member proposed
    before stays, and may still win.
    """
    answers = {member: result.value for member, result in results.items() if isinstance(result, Ok)}
    if len(answers) == len(results):
        return state, answers
    late = {member for member, result in results.items() if isinstance(result, Late)}
    misses = {**state.misses, **{member: state.misses.get(member, 0) + 1 for member in late}}
    busy = {member for member, result in results.items() if isinstance(result, Busy)}
    outgrown = {
        m for m, result in results.items() if isinstance(result, Refused) and result.outgrown
    }
    state = replace(
        state,
        misses=misses,
        missed=state.missed | late | busy,
        outgrown=state.outgrown | outgrown,
        round=replace(state.round, absent=state.round.absent | late | busy),
    )
    unreached = (
        m for m, result in results.items() if isinstance(result, Failed) and result.may_pass
    )
    return state.losing(_departures(state, results)).expecting(unreached), answers


def _departures(
    state: QueryState, results: Mapping[MemberName, Result[Answer]]
) -> Iterator[Departure]:
    """The members that these results lose, once the state has counted the late ones."""
    for member, result in results.items():
        if isinstance(result, Failed):
            yield Departure(member, DepartureReason.FAILED, result.detail)
        elif isinstance(result, Refused):
            yield Departure(member, DepartureReason.REJECTED, result.detail)
        elif isinstance(result, Late) and state.misses[member] >= state.rules.max_misses:
            detail = f"late in {state.misses[member]} rounds"
            yield Departure(member, DepartureReason.STRAGGLER, detail)


def _checked(result: Result[Answer], problem: Callable[[Answer], str | None]) -> Result[Answer]:
    """The result, or the failure to give a usable one."""
    if isinstance(result, Ok) and (detail := problem(result.value)):
        return Failed(f"MODEL_FAILURE: {detail}")
    return result


def _problem_with_proposal(proposal: Proposal) -> str | None:
    """More tokens than asked for are no problem: a text may encode to more than were drafted."""
    fewest = 1 if proposal.text else 0
    if proposal.token_count < fewest:
        return f"token_count is {proposal.token_count}, must be at least {fewest}"
    return problem_with(proposal.own_score, proposal.text) if proposal.own_score else None


def _problem_with_scores(
    scores: tuple[Score, ...], candidates: tuple[Candidate, ...]
) -> str | None:
    if len(scores) != len(candidates):
        return f"{len(scores)} scores for {len(candidates)} candidates"
    pairs = zip(scores, candidates, strict=True)
    return next((problem for s, c in pairs if (problem := problem_with(s, c.text))), None)


def _ordered(state: QueryState, by_member: Mapping[MemberName, Answer]) -> dict[MemberName, Answer]:
    return {member: by_member[member] for member in state.in_order(by_member)}


def problem_with(score: Score, text: str) -> str | None:
    """Why these numbers cannot be the score of a candidate with this text; None if they can."""
    if score.token_count < 1:
        return f"token_count is {score.token_count}, must be at least 1"
    if score.byte_count < 0:
        return f"byte_count is {score.byte_count}, must be at least 0"
    if not score.logprob_sum <= ROUNDING * score.token_count:  # also catches NaN
        return f"logprob_sum is {score.logprob_sum}, must be at most 0"
    if not 0.0 <= score.probability_mean <= 1.0 + ROUNDING:
        return f"probability_mean is {score.probability_mean}, must be in [0, 1]"
    return _problem_with_evidence(score.evidence, text) if score.evidence else None


def _problem_with_evidence(evidence: Evidence, text: str) -> str | None:
    if not evidence.regret_max >= 0.0:  # also catches NaN
        return f"regret_max is {evidence.regret_max}, must be at least 0"
    if not evidence.regret_sum >= evidence.regret_max - ROUNDING:
        return f"regret_sum is {evidence.regret_sum}, must be at least {evidence.regret_max}"
    if evidence.entropy is not None and not evidence.entropy >= 0.0:
        return f"entropy is {evidence.entropy}, must be at least 0"
    if not evidence.weakest_logprob <= ROUNDING:
        return f"weakest_logprob is {evidence.weakest_logprob}, must be at most 0"
    if evidence.untold is not None and not evidence.untold >= 0.0:
        return f"untold is {evidence.untold}, must be at least 0"
    return (
        _problem_with_offset("regret_offset", evidence.regret_offset, text)
        or _problem_with_offset("weakest_offset", evidence.weakest_offset, text)
        or _problem_with_places(evidence, text)
    )


def _problem_with_places(evidence: Evidence, text: str) -> str | None:
    places, most = evidence.further, evidence.regret_max
    if len(places) > MOST_PLACES:
        return f"further has {len(places)} places, must have at most {MOST_PLACES}"
    named = ((f"further[{i}]", place) for i, place in enumerate(places))
    problems = (_problem_with_place(name, place, most, text) for name, place in named)
    return next(filter(None, problems), None)


def _problem_with_place(name: str, place: Disagreement, most: float, text: str) -> str | None:
    if not 0.0 <= place.regret <= most + ROUNDING:  # also catches NaN
        return f"{name}.regret is {place.regret}, must be at least 0 and at most {most}"
    if place.best_logprob is not None and not place.best_logprob <= ROUNDING:
        return f"{name}.best_logprob is {place.best_logprob}, must be at most 0"
    return _problem_with_offset(f"{name}.offset", place.offset, text)


def _problem_with_offset(name: str, offset: int, text: str) -> str | None:
    """A byte of the text at which a character begins, or its length."""
    written = text.encode()
    if not 0 <= offset <= len(written):
        return f"{name} is {offset}, must be at most {len(written)}"
    if offset < len(written) and written[offset] & 0xC0 == 0x80:  # noqa: PLR2004 - UTF-8
        return f"{name} is {offset}, within a character"
    return None
