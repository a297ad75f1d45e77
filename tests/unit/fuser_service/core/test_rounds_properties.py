"""What holds for every query: whole queries of members that say, fail and dawdle at random."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fuser_service.core.rules import (
    ExitKind,
    ExitRules,
    Rules,
    SelfJudgement,
    Statistic,
    Vote,
    Weighting,
)
from fuser_service.core.steps import (
    Busy,
    Failed,
    Finish,
    Late,
    LoseQuorum,
    Propose,
    Refused,
    Result,
    Step,
    Verify,
)
from fuser_service.core.types import (
    Candidate,
    CommittedRound,
    DepartureReason,
    Evidence,
    FinishReason,
    JudgedCandidate,
    Proposal,
    Score,
    SegmentFinish,
)
from tests.support.played_query import Played, play

PIECES = (" a", " b", " #", "#", "c", "")


class World:
    """Members whose every answer is drawn at random, but always alike for the same question.

    `trouble` is how often a call fails or is late, `own` how often a proposal brings its score,
    `evidence` how often a score brings evidence.
    """

    def __init__(
        self, seed: int, *, trouble: float = 0.0, own: float = 0.5, evidence: float = 0.9
    ) -> None:
        self.seed = seed
        self.trouble = trouble
        self.own = own
        self.evidence = evidence

    def propose(self, member: str, committed: tuple[str, ...]) -> Result[Proposal] | Proposal:
        random = self._random("propose", member, committed)
        if random.random() < self.trouble:
            refused = Refused("CONTEXT_TOO_LONG: no", outgrown=True)
            unreached = Failed("UNAVAILABLE: gone", may_pass=True)
            return random.choice((unreached, Failed("MODEL_FAILURE: nan"), refused, Busy(), Late()))
        text = "".join(random.choice(PIECES) for _ in range(random.randint(1, 2)))
        finish = SegmentFinish.END if random.random() < 0.05 else SegmentFinish.LENGTH
        candidate = Candidate(text, finish is SegmentFinish.END)
        own = self._score(member, committed, candidate) if random.random() < self.own else None
        return Proposal(text, finish, min(1, len(text)), own)

    def score(
        self, member: str, committed: tuple[str, ...], candidate: Candidate
    ) -> Result[Score] | Score:
        random = self._random("score", member, committed)
        if random.random() < self.trouble:
            refused = Refused("INVALID_ARGUMENT: no")
            failed = Failed("MODEL_FAILURE: nan")
            unreached = Failed("UNAVAILABLE: gone", may_pass=True)
            return random.choice((failed, unreached, refused, Busy(), Late()))
        return self._score(member, committed, candidate)

    def play(self, rules: Rules, committed: tuple[str, ...] = (), tokens: int = 0) -> Played:
        return play(rules, self.propose, self.score, committed, tokens)

    def _score(self, member: str, committed: tuple[str, ...], c: Candidate) -> Score:
        random = self._random("like", member, committed, c.text, c.finished)
        probabilities = [random.random() for _ in range(random.randint(1, 3))]
        if random.random() < 0.05:
            return Score(-math.inf, 0.0, 1, len(c.text))
        logs = math.fsum(math.log(p) for p in probabilities)
        mean = math.fsum(probabilities) / len(probabilities)
        evidence = self._evidence(random, c) if random.random() < self.evidence else None
        return Score(logs, mean, len(probabilities), len(c.text), evidence)

    def _evidence(self, random: Random, c: Candidate) -> Evidence:
        last = max(0, len(c.text) - (0 if c.finished else 1))
        return Evidence(
            regret_sum=9.0,
            regret_max=random.choice((0.0, 0.5, 3.0)),
            regret_offset=random.randint(0, last),
            entropy=random.choice((0.1, 3.0, None)),
            weakest_logprob=-random.random(),
            weakest_offset=random.randint(0, last),
        )

    def _random(self, *key: object) -> Random:
        return Random(repr((self.seed, *key)))


seeds = st.integers(0, 2**32)
exits = st.builds(
    ExitRules,
    kind=st.sampled_from(ExitKind),
    tau0=st.sampled_from((0.02, 0.3)),
    alpha=st.sampled_from((0.5, 1.0)),
    min_rounds=st.integers(1, 2),
    min_models=st.integers(1, 3),
    recall=st.sampled_from((True, True, False)),
    recall_ratio=st.sampled_from((0.5, 0.9)),
    patience=st.integers(1, 4),
)


@st.composite
def any_rules_of(draw: st.DrawFn) -> Rules:
    members = "abcde"[: draw(st.integers(1, 5))]
    return Rules(
        members=tuple(members),
        max_tokens=draw(st.integers(1, 15)),
        segment_tokens=draw(st.integers(1, 4)),
        vote=draw(st.sampled_from(Vote)),
        sharpness=draw(st.sampled_from((0.0, 8.0))),
        stop=draw(st.sampled_from(((), ("##",), ("#c", "a #"), ("a b a",)))),
        statistic=draw(st.sampled_from(Statistic)),
        weighting=draw(st.sampled_from(Weighting)),
        eta=draw(st.sampled_from((0.5, 5.0, 1000.0))),
        self_judgement=draw(st.sampled_from(SelfJudgement)),
        fast_finish=draw(st.sampled_from((False, False, True))),
        exit=draw(exits),
        quorum=min(draw(st.integers(1, 3)), len(members)),
        max_misses=draw(st.integers(1, 3)),
        max_segments=draw(st.sampled_from((2, 4096))),
        max_bytes=draw(st.sampled_from((9, 1000))),
    )


any_rules = any_rules_of()
worlds = st.builds(World, seeds, trouble=st.sampled_from((0.0, 0.05, 0.3)))


# The answer


@given(worlds, any_rules)
def test_the_text_is_the_segments_up_to_the_stop_string(world: World, rules: Rules) -> None:
    played = world.play(rules)
    segments = "".join(played.states[-1].committed)
    assert segments == "".join(committed.segment for committed in played.rounds)
    assert not any(stop in played.text for stop in rules.stop)
    if isinstance(played.end, LoseQuorum):
        assert segments.startswith(played.text)
    elif any(stop in segments for stop in rules.stop):
        assert any(segments.startswith(played.text + stop) for stop in rules.stop)
    else:
        assert played.text == segments


@given(worlds, any_rules)
def test_the_answer_ends_for_the_right_reason(world: World, rules: Rules) -> None:
    played = world.play(rules)
    tokens = sum(committed.token_count for committed in played.rounds)
    assert tokens == played.states[-1].committed_tokens <= rules.max_tokens
    if not isinstance(played.end, Finish):
        return
    segments = "".join(committed.segment for committed in played.rounds)
    stopped = any(stop in segments for stop in rules.stop)
    finished = bool(played.rounds) and _winning(played.rounds[-1]).candidate.finished
    complete = stopped or finished
    assert played.end.reason is (FinishReason.STOP if complete else FinishReason.LENGTH)
    nobody_proposed = not played.states[-1].candidates
    full = (
        tokens == rules.max_tokens
        or len(played.rounds) == rules.max_segments
        or len(segments.encode()) >= rules.max_bytes
    )
    outgrown = played.states[-1].outgrown
    assert complete or full or nobody_proposed or outgrown


@given(worlds, any_rules)
def test_nobody_is_asked_to_continue_a_full_answer(world: World, rules: Rules) -> None:
    for state in world.play(rules).states[:-1]:
        assert len(state.committed) < rules.max_segments
        assert len("".join(state.committed).encode()) < rules.max_bytes


@given(seeds, any_rules, st.data())
def test_a_resumed_answer_goes_on_as_it_would_have(
    seed: int, rules: Rules, data: st.DataObject
) -> None:
    # Weights and exits start afresh on resumption, so only a query without any can be compared; and
    # no draft is left, where these members would not draft again what they did.
    rules = replace(
        rules,
        exit=ExitRules(kind=ExitKind.NONE),
        weighting=Weighting.UNIFORM,
        vote=Vote.SEGMENTS,
    )
    whole = World(seed).play(rules)
    done = whole.rounds[: data.draw(st.integers(0, max(0, len(whole.rounds) - 1)))]
    rest = World(seed).play(
        rules,
        committed=tuple(committed.segment for committed in done),
        tokens=sum(committed.token_count for committed in done),
    )
    assert "".join(committed.text for committed in done) + rest.text == whole.text
    assert rest.end == whole.end
    assert rest.states[-1].committed == whole.states[-1].committed


# The vote


@given(worlds, any_rules)
def test_shares_and_weights_sum_to_one(world: World, rules: Rules) -> None:
    played = world.play(rules)
    for state in played.states:
        assert math.fsum(state.weights.among(rules.members).values()) == pytest.approx(1.0)
    for committed in played.rounds:
        assert math.fsum(c.share for c in committed.candidates) == pytest.approx(1.0)
        given_by: Counter[str] = Counter()
        for candidate in committed.candidates:
            given_by.update(dict(candidate.judgements))
        assert all(total == pytest.approx(1.0) for total in given_by.values())


@given(worlds, any_rules)
def test_the_winner_has_the_largest_share(world: World, rules: Rules) -> None:
    for committed in world.play(rules).rounds:
        best = committed.candidates[0]
        assert best.candidate.text == committed.segment
        assert best.proposers[0] == committed.winner
        assert best.share == max(c.share for c in committed.candidates)


@given(worlds, any_rules)
def test_a_strictly_dominated_candidate_never_wins(world: World, rules: Rules) -> None:
    """Unless a vote on words looks at what they lead to as well."""
    settled = replace(rules, self_judgement=SelfJudgement.INCLUDE, foresight=0.0)
    for committed in world.play(settled).rounds:
        winner, *others = (dict(c.judgements) for c in committed.candidates)
        for other in others:
            assert not winner or any(winner[judge] >= other[judge] for judge in winner)


@given(seeds, any_rules, st.sampled_from("abcde"), st.floats(-3.0, 0.0))
def test_a_constant_on_one_verifiers_tokens_changes_no_vote(
    seed: int, rules: Rules, shifted: str, constant: float
) -> None:
    # Confidence is absolute, so recall is left out.
    exit_rules = replace(rules.exit, recall=False)
    rules = replace(rules, vote=Vote.SEGMENTS, statistic=Statistic.GEOMETRIC, exit=exit_rules)
    world = World(seed, own=0.0)

    def shift(
        member: str, committed: tuple[str, ...], candidate: Candidate
    ) -> Result[Score] | Score:
        score = world.score(member, committed, candidate)
        assert isinstance(score, Score)
        if member != shifted:
            return score
        return score._replace(logprob_sum=score.logprob_sum + constant * score.token_count)

    plain = world.play(rules)
    other = play(rules, world.propose, shift)
    assert other.text == plain.text
    for one, two in zip(plain.rounds, other.rounds, strict=True):
        assert [c.share for c in two.candidates] == pytest.approx([c.share for c in one.candidates])


@given(worlds, any_rules, st.randoms())
def test_permuting_the_members_permutes_the_results(
    world: World, rules: Rules, random: Random
) -> None:
    # Where the order decides by design there is nothing to compare: of two finished candidates
    # taken unscored, of two that no verifier can tell apart, of two equals when all but
    # min_models must go.
    rules = replace(rules, fast_finish=False, exit=replace(rules.exit, min_models=1))
    members = list(rules.members)
    random.shuffle(members)
    played = world.play(rules)
    assume(not any(_is_tied(committed) for committed in played.rounds))
    permuted = world.play(replace(rules, members=tuple(members)))
    assert permuted.text == played.text
    assert type(permuted.end) is type(played.end)
    for one, two in zip(played.rounds, permuted.rounds, strict=True):
        assert _unordered(one) == _unordered(two)


# Who is asked


@given(worlds, any_rules)
def test_somebody_is_always_asked_and_nobody_who_left(world: World, rules: Rules) -> None:
    played = world.play(rules)
    for state, step in zip(played.states, played.steps, strict=True):
        lost = {departure.member for departure in state.lost}
        away = {*state.dormant, *lost} - {*state.active}
        asked = _asked(step)
        assert not away & set(asked)
        assert not set(state.dormant) & set(state.active)
        assert lost & set(state.active) <= state.failures.keys(), "only the unreached come back"
        if isinstance(step, Propose | Verify):
            assert asked
            assert 1 <= step.required <= len(asked)
            assert set(asked) <= set(state.active)
            assert {*state.active} | away == set(rules.members)


@given(worlds, any_rules)
def test_no_score_is_asked_for_that_is_known(world: World, rules: Rules) -> None:
    played = world.play(rules)
    for state, step in zip(played.states, played.steps, strict=True):
        if isinstance(step, Verify):
            for member, candidates in step.assignments.items():
                assert candidates
                assert not set(candidates) & set(state.round.scores.get(member, {}))


@given(worlds, any_rules)
def test_only_those_who_return_propose_and_quality_restarts(world: World, rules: Rules) -> None:
    played = world.play(rules)
    for (before, state), step in zip(pairwise(played.states), played.steps[1:], strict=True):
        returned = set(before.dormant) - set(state.dormant)
        if returned and isinstance(step, Propose):
            assert set(step.members) == returned <= set(state.round.recalled)
            assert set(state.quality.values()) == {0.0}
            assert state.quality_rounds == 0


@given(seeds, any_rules)
def test_without_trouble_every_call_is_made_or_avoided(seed: int, rules: Rules) -> None:
    played = World(seed).play(rules)
    made: dict[int, Counter[str]] = defaultdict(Counter)
    for state, step in zip(played.states, played.steps, strict=True):
        made[state.round.number].update(_asked(step))
    for commit in played.commits:
        calls = made[commit.round.number]
        for avoided in commit.avoided:
            calls[avoided.member] += avoided.propose + avoided.score
        if commit.round.objected:  # costs everybody a call more for each who is heard in it
            assert all(2 <= calls[member] <= 2 + len(rules.members) for member in rules.members)
        elif commit.round.recalled:  # costs the others a call more, at most
            assert all(2 <= calls[member] <= 3 for member in rules.members)
        else:
            assert all(calls[member] == 2 for member in rules.members)


@given(worlds, any_rules)
def test_guards_of_the_exit(world: World, rules: Rules) -> None:
    played = world.play(rules)
    for before, after in pairwise(played.states):
        if set(after.dormant) - set(before.dormant):
            assert len(after.active) >= rules.exit.min_models
            assert after.quality_rounds >= rules.exit.min_rounds
    for committed in played.rounds:
        exits = {d.member for d in committed.left if d.reason is DepartureReason.EXIT}
        assert not exits & set(_winning(committed).proposers)


@given(worlds, any_rules)
def test_nobody_is_late_too_often(world: World, rules: Rules) -> None:
    state = world.play(rules).states[-1]
    stragglers = {d.member for d in state.lost if d.reason is DepartureReason.STRAGGLER}
    for member, misses in state.misses.items():
        assert misses <= rules.max_misses
        assert (misses == rules.max_misses) == (member in stragglers)


def _asked(step: Step) -> tuple[str, ...]:
    match step:
        case Propose():
            return step.members
        case Verify():
            return tuple(step.assignments)
        case _:
            return ()


def _winning(committed: CommittedRound) -> JudgedCandidate:
    return committed.candidates[0]


def _is_tied(committed: CommittedRound) -> bool:
    shares = [candidate.share for candidate in committed.candidates]
    return len(set(shares)) < len(shares)


def _unordered(committed: CommittedRound) -> object:
    return (
        committed.segment,
        committed.text,
        committed.token_count,
        [
            (c.candidate, set(c.proposers), c.share, dict(c.judgements))
            for c in committed.candidates
        ],
        set(committed.took_part),
        set(committed.left),
        set(committed.recalled),
    )
