"""Queries of members that say whatever the contract lets them, never twice the same."""

from __future__ import annotations

import math
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core import rounds
from fuser_service.core.attendance import problem_with
from fuser_service.core.rounds import Transition
from fuser_service.core.rules import ExitKind, ExitRules, ObjectionRules, Rules, Vote, Weighting
from fuser_service.core.state import QueryState
from fuser_service.core.steps import (
    Busy,
    Failed,
    Finish,
    Late,
    LoseQuorum,
    Ok,
    Propose,
    Refused,
    Result,
    Verify,
)
from fuser_service.core.types import (
    Candidate,
    Disagreement,
    Evidence,
    Proposal,
    Score,
    SegmentFinish,
)
from tests.support.played_query import Played

Answer = TypeVar("Answer")

PIECES = (
    " a",
    "a",
    " b",
    "b",
    "'",
    " ",
    "\r\n",
    "\n",
    "#",
    "日",
    "本",
    "ก",
    "e\u0301",
    "👩\u200d🔬",
)
STOPS = ((), ("##",), ("a b",), ("日本", "\n\n"), ("a'b", " b a b"))
STEPS_OF_A_ROUND = 60
"""More than the longest round needs: a draft of every member, heard one after another."""


class Hostile:
    """Members that draft, score and fail at random.

    `trouble` is how often a call brings no answer, `evidence` how often a score brings evidence.
    """

    def __init__(self, seed: int, trouble: float, evidence: float) -> None:
        self._random = Random(seed)
        self._trouble = trouble
        self._evidence = evidence

    def play(self, rules: Rules) -> Played:
        """The query to its end.

        Raises:
            AssertionError: it does not come to one.
        """
        played = Played()
        transition = rounds.start(rules)
        for _ in range((rules.max_tokens + 1) * STEPS_OF_A_ROUND):
            played.states.append(transition.state)
            played.steps.append(transition.step)
            if transition.commit:
                played.commits.append(transition.commit)
            if isinstance(transition.step, Finish | LoseQuorum):
                return played
            transition = self._perform(transition.state, transition.step)
        raise AssertionError("the query goes on for ever")

    def _perform(self, state: QueryState, step: Propose | Verify) -> Transition:
        if isinstance(step, Propose):
            asked = step.members
            if step.relief and self._random.random() < 0.3:
                asked += step.relief.members
            proposals = {m: self._or_trouble(self._proposal(step)) for m in asked}
            return rounds.proposed(state, step, proposals)
        scores = {
            m: self._or_trouble(tuple(map(self._score, candidates)))
            for m, candidates in step.assignments.items()
        }
        return rounds.scored(state, step, scores)

    def _or_trouble(self, answer: Answer) -> Result[Answer]:
        if self._random.random() >= self._trouble:
            return Ok(answer)
        unreached = Failed("UNAVAILABLE: gone", may_pass=True)
        refused = Refused("CONTEXT_TOO_LONG: no", outgrown=True)
        return self._random.choice(
            (unreached, Failed("MODEL_FAILURE: nan"), refused, Busy(), Late(), Late())
        )

    def _proposal(self, step: Propose) -> Proposal:
        random = self._random
        text = "".join(random.choices(PIECES, k=random.choice((0, 1, 1, 2, 3, 5))))
        finish = random.choice((SegmentFinish.LENGTH, *SegmentFinish))
        candidate = Candidate(text, finish is SegmentFinish.END)
        own = self._score(candidate) if text and random.random() < 0.5 else None
        tokens = random.randint(1, step.max_tokens) if text else 0
        return Proposal(text, finish, tokens, own)

    def _score(self, candidate: Candidate) -> Score:
        random = self._random
        size = len(candidate.text.encode())
        evidence = self._evidence_on(candidate) if random.random() < self._evidence else None
        logprob = random.choice((-math.inf, -1e308, -1e3, -3.0, -0.1, 0.0, 5e-4))
        score = Score(logprob, random.random(), random.randint(1, 4), size, evidence)
        assert problem_with(score, candidate.text) is None
        return score

    def _evidence_on(self, candidate: Candidate) -> Evidence:
        random = self._random
        places = [len(candidate.text[:i].encode()) for i in range(len(candidate.text) + 1)]
        largest = random.choice((0.0, 1.0, 2.0, 9.0, math.inf))
        return Evidence(
            regret_sum=largest * random.choice((1.0, 3.0)),
            regret_max=largest,
            regret_offset=random.choice(places),
            entropy=random.choice((0.0, 0.5, 9.0, math.inf, None)),
            weakest_logprob=random.choice((0.0, -0.1, -9.0, -math.inf)),
            weakest_offset=random.choice(places),
            further=tuple(self._place(places, largest) for _ in range(random.choice((0, 0, 1, 3)))),
            untold=random.choice((None, 0.0, 2.0, math.inf)),
        )

    def _place(self, places: list[int], largest: float) -> Disagreement:
        random = self._random
        regret = min(largest, random.choice((0.0, 2.0, 9.0, math.inf)))
        return Disagreement(random.choice(places), regret, random.choice((0.0, -0.5, -9.0)))


hostile = st.builds(
    Hostile, st.integers(0, 2**32), st.sampled_from((0.0, 0.1, 0.4)), st.sampled_from((1.0, 0.7))
)


@st.composite
def rules_of_watching(draw: st.DrawFn) -> Rules:
    members = "abcde"[: draw(st.integers(1, 5))]
    recall = draw(st.booleans())
    return Rules(
        members=tuple(members),
        max_tokens=draw(st.integers(1, 12)),
        segment_tokens=draw(st.integers(1, 5)),
        stretch_tokens=draw(st.sampled_from((0, 0, 3, 12))),
        opener=draw(st.sampled_from((None, *members))),
        stop=draw(st.sampled_from(STOPS)),
        vote=Vote.WORDS,
        sharpness=draw(st.sampled_from((0.0, 4.0, 64.0))),
        objections=ObjectionRules(draw(st.sampled_from((0.5, 2.0))), 1.0),
        weighting=draw(st.sampled_from(Weighting)),
        eta=draw(st.sampled_from((1.0, 1000.0))),
        fast_finish=draw(st.booleans()),
        exit=ExitRules(
            draw(st.sampled_from((ExitKind.WATCH, ExitKind.WATCH, *ExitKind))),
            min_models=draw(st.integers(1, 3)),
            recall=recall,
            patience=draw(st.integers(1, 4)),
        ),
        quorum=draw(st.integers(1, len(members))),
        max_misses=draw(st.integers(1, 3)),
    )


@given(hostile, rules_of_watching())
def test_every_query_ends_with_the_text_and_tokens_that_it_committed(
    members: Hostile, rules: Rules
) -> None:
    played = members.play(rules)
    last = played.states[-1]
    segments = "".join(committed.segment for committed in played.rounds)
    assert "".join(last.committed) == segments
    assert last.committed_bytes == len(segments.encode())
    assert last.committed_tokens == sum(committed.token_count for committed in played.rounds)
    assert last.committed_tokens <= rules.max_tokens
    assert not any(stop in played.text for stop in rules.stop)
    assert segments.startswith(played.text)
    if isinstance(played.end, Finish) and not any(stop in segments for stop in rules.stop):
        assert played.text == segments


@given(hostile, rules_of_watching())
def test_every_round_adds_something_and_is_judged_in_shares(members: Hostile, rules: Rules) -> None:
    for committed in members.play(rules).rounds:
        best = committed.candidates[0]
        assert best.candidate.text == committed.segment
        assert committed.segment or best.candidate.finished
        assert committed.token_count >= bool(committed.segment)
        assert math.isclose(math.fsum(c.share for c in committed.candidates), 1.0)
        assert not set(committed.watched) & set(committed.took_part)


@given(hostile, rules_of_watching())
def test_only_who_is_there_is_asked_and_nobody_for_what_is_known(
    members: Hostile, rules: Rules
) -> None:
    played = members.play(rules)
    for state, step in zip(played.states, played.steps, strict=True):
        if isinstance(step, Propose | Verify):
            assert 1 <= step.required <= rules.quorum, "stragglers cost no more than their grace"
        assert not set(state.active) & set(state.dormant)
        if isinstance(step, Propose):
            assert step.members
            assert set(step.members) <= set(state.active) - state.round.proposals.keys()
            assert 1 <= step.max_tokens <= state.tokens_left
            if step.relief:
                assert set(step.relief.members) <= set(state.watchers) - set(step.members)
                assert step.required <= step.relief.required <= played.states[0].rules.quorum
        elif isinstance(step, Verify):
            assert step.assignments
            assert step.assignments.keys() <= set(state.present)
            for member, candidates in step.assignments.items():
                assert candidates
                assert not set(candidates) & state.round.scores.get(member, {}).keys()
