"""Members that watch: they judge, are heard when they object, and otherwise change nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuser_service.core.objections import objects
from fuser_service.core.rules import ExitKind, ExitRules, ObjectionRules, Rules, Vote
from fuser_service.core.steps import Failed, Finish, Late, LoseQuorum, Propose, Verify
from fuser_service.core.types import (
    Candidate,
    DepartureReason,
    Disagreement,
    Evidence,
    FinishReason,
    Proposal,
    Score,
    SegmentFinish,
)
from fuser_service.core.verdict import by_vote, verifiers
from tests.support.played_query import Played, play

ENTROPY = 1.0
AGREES = 0.05


def rules(members: Iterable[str] = "abc", **changes: object) -> Rules:
    settings: dict[str, object] = {
        "members": tuple(members),
        "max_tokens": 60,
        "segment_tokens": 4,
        "vote": Vote.WORDS,
        "sharpness": 8.0,
        "exit": ExitRules(kind=ExitKind.WATCH, recall=False),
        "objections": ObjectionRules(regret=1.0, entropy=ENTROPY),
    }
    return Rules(**{**settings, **changes})  # type: ignore[arg-type]


class Minds:
    """Members that each have an answer in mind, word by word, and how sure they are of each word.

    A member would write its own word, whatever was written before, with its probability. Evidence
    names so many `further` places; with None it is that of who tells of one place alone.
    """

    def __init__(
        self,
        minds: dict[str, list[tuple[str, float]]],
        draft: int = 4,
        further: int | None = None,
    ) -> None:
        self.minds = minds
        self.length = draft
        self.further = further

    def propose(self, member: str, committed: tuple[str, ...]) -> Proposal:
        done = len("".join(committed).split())
        words = [word for word, _ in self.minds[member][done : done + self.length]]
        ends = done + len(words) >= len(self.minds[member]) and len(words) < self.length
        finish = SegmentFinish.END if ends else SegmentFinish.LENGTH
        text = "".join(f" {word}" for word in words)
        own = self.score(member, committed, Candidate(text, finished=ends))
        return Proposal(text, finish, len(words), own)

    def score(self, member: str, committed: tuple[str, ...], candidate: Candidate) -> Score:
        done = len("".join(committed).split())
        mind = self.minds[member]
        logs, regrets, offsets, entropies, at = [], [], [], [], 0
        for place, written in enumerate(re.finditer(r"\s*\S+", candidate.text), done):
            word = written[0].lstrip()
            own, sure = mind[place] if place < len(mind) else ("<end>", 0.99)
            p = sure if word == own else (1 - sure) / 10
            logs.append(math.log(p))
            regrets.append(math.log(sure) - math.log(p))
            entropies.append(-sure * math.log(sure) - (1 - sure) * math.log((1 - sure) / 10))
            offsets.append(at)
            at = len(candidate.text[: written.end()].encode())
        if candidate.finished:
            p = 0.99 if done + len(candidate.text.split()) >= len(mind) else 0.001
            logs.append(math.log(p))
            regrets.append(math.log(0.99) - math.log(p))
            entropies.append(0.05)
            offsets.append(at)
        worst = max(range(len(logs)), key=lambda i: (regrets[i], -i))
        weakest = min(range(len(logs)), key=lambda i: (logs[i], i))
        others = [
            Disagreement(offsets[i], regrets[i], logs[i] + regrets[i])
            for i in sorted(range(len(logs)), key=lambda i: -regrets[i])
            if i != worst and regrets[i]
        ]
        told = others[: self.further or 0]
        untold = max((one.regret for one in others[len(told) :]), default=0.0)
        evidence = Evidence(
            math.fsum(regrets), regrets[worst], offsets[worst], entropies[worst],
            logs[weakest], offsets[weakest], tuple(told), None if self.further is None else untold,
        )  # fmt: skip
        mean = math.fsum(map(math.exp, logs)) / len(logs)
        return Score(math.fsum(logs), mean, len(logs), len(candidate.text.encode()), evidence)

    def play(self, rules: Rules) -> Played:
        return play(rules, self.propose, self.score)


def mind(text: str, *, knows: str = "", sure: float = 0.95, guess: float = 0.3) -> list:  # type: ignore[type-arg]
    """An answer in mind: sure of its form; of capital words only if they are all it `knows`."""
    return [
        (word, sure if word[0].islower() or word in knows.split() else guess)
        for word in text.split()
    ]


KNOWER_LEFT = Minds(
    {
        "a": mind("in rome is Trevi and of coal the color is Pink", knows="Trevi"),
        "b": mind("in rome is Arno and of coal the color is Black", knows="Black"),
        "c": mind("in rome is Po and of coal the color is Pink"),
    }
)


def test_who_knows_is_heard_although_it_watched() -> None:
    played = KNOWER_LEFT.play(rules())
    assert played.text == " in rome is Trevi and of coal the color is Black"
    assert played.end == Finish(FinishReason.STOP, "")
    objections = [committed.objected for committed in played.rounds if committed.objected]
    assert ("b",) in objections


def test_one_drafts_and_the_others_watch_from_the_beginning() -> None:
    played = KNOWER_LEFT.play(rules())
    assert all(len(asked) == 1 for asked in played.asked_to_propose)
    assert all(len(committed.watched) >= 1 for committed in played.rounds)


@pytest.mark.parametrize("opener", [None, "a", "b", "c"])
def test_whoever_opens_the_answer_is_the_same(opener: str | None) -> None:
    played = KNOWER_LEFT.play(rules("cab", opener=opener))
    assert played.asked_to_propose[0] == (opener or "a",)
    assert played.text == " in rome is Trevi and of coal the color is Black"


def test_where_the_opener_fails_all_others_draft() -> None:
    def propose(member: str, committed: tuple[str, ...]) -> Failed | Proposal:
        return Failed("gone") if member == "a" else KNOWER_LEFT.propose(member, committed)

    played = play(rules(), propose, KNOWER_LEFT.score)
    assert played.asked_to_propose[:2] == [("a",), ("b", "c")]
    assert played.rounds[0].segment == " in rome is"


DECLINES = mind("nobody knows that.", sure=0.6)
GUESSES = mind("coal is Pink.")


def test_where_nobody_is_sure_whoever_would_begin_otherwise_is_heard() -> None:
    doubtful = Minds({"a": GUESSES, "b": DECLINES, "c": GUESSES})
    played = doubtful.play(rules())
    assert "b" in played.rounds[0].objected
    assert played.text == " nobody knows that."


def test_where_somebody_is_sure_who_is_not_does_not_object() -> None:
    known = Minds({"a": mind("coal is Black.", knows="Black."), "b": DECLINES, "c": GUESSES})
    played = known.play(rules())
    assert not any(committed.objected for committed in played.rounds)
    assert played.text == " coal is Black."


def test_a_doubtful_sentence_that_has_begun_is_gone_on_with() -> None:
    doubtful = Minds({"a": mind("so coal is Pink."), "b": mind("so coal is Grey.")})
    played = doubtful.play(rules("ab"))
    assert not any(committed.objected for committed in played.rounds)
    assert played.text == " so coal is Pink."


def test_no_foresight_asks_nobody_who_is_not_sure() -> None:
    doubtful = Minds({"a": GUESSES, "b": DECLINES, "c": GUESSES})
    played = doubtful.play(rules(foresight=0.0))
    assert played.text == " coal is Pink."


def test_an_end_too_early_is_objected_to() -> None:
    short = Minds({"a": mind("x y"), "b": mind("x y z z z z"), "c": mind("x y z z z z")})
    played = short.play(rules(objections=ObjectionRules(regret=1.0, entropy=ENTROPY)))
    assert played.text == " x y z z z z"


def test_who_is_unsure_does_not_object() -> None:
    unsure = Minds({"a": mind("x Oslo z"), "b": mind("x Bonn z"), "c": mind("x Rome z")})
    played = unsure.play(rules())
    assert not any(committed.objected for committed in played.rounds)


def test_who_gives_no_evidence_goes_on_drafting() -> None:
    class Mute(Minds):
        def score(self, member: str, committed: tuple[str, ...], candidate: Candidate) -> Score:
            score = super().score(member, committed, candidate)
            if member != "b":
                return score
            return Score(
                score.logprob_sum, score.probability_mean, score.token_count, score.byte_count
            )

    played = Mute(KNOWER_LEFT.minds).play(rules())
    assert played.text == " in rome is Trevi and of coal the color is Black"
    assert not any("b" in committed.watched for committed in played.rounds)
    same = mind("a b c d e f g h i j k l m n o p")
    agreeing = Mute({"a": same, "b": same, "c": same}).play(rules())
    assert agreeing.asked_to_propose == [("a",), ("b",), *[("a", "b")] * 4]
    assert not any(committed.objected for committed in agreeing.rounds[1:])


def test_who_watched_long_without_a_word_leaves() -> None:
    same = mind("a b c d e f g h i j k l m n o p")
    agreeing = Minds({"a": same, "b": same, "c": same})
    played = agreeing.play(rules(exit=ExitRules(kind=ExitKind.WATCH, patience=2, recall=False)))
    left = [d for committed in played.rounds for d in committed.left]
    assert {d.reason for d in left} == {DepartureReason.EXIT}
    assert sorted(d.member for d in left) == ["b", "c"]
    assert played.text == "".join(f" {word}" for word, _ in same)


def test_who_drafts_counts_for_the_quorum_of_those_that_judge() -> None:
    same = mind("a b c d e f")
    played = Minds({"a": same, "b": same, "c": same}).play(rules(quorum=2))
    asked = [step.required for step in played.steps if isinstance(step, Verify)]
    assert set(asked) == {1}


@pytest.mark.parametrize("before", ["Facts.", "Facts:\n", "- one\n\n", "one. \n"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_sentence_begins_after_another_and_on_a_new_line(before: str, apart: bool) -> None:
    doubtful = Minds({"a": mind("x coal is Pink."), "b": [("x", 0.95), *DECLINES]})
    end = len(before.rstrip())
    committed = (before[:end], before[end:]) if apart and before[end:] else (before,)

    def propose(member: str, so_far: tuple[str, ...]) -> Proposal:
        return doubtful.propose(member, ("x", *so_far[len(committed) :]))

    def score(member: str, so_far: tuple[str, ...], candidate: Candidate) -> Score:
        return doubtful.score(member, ("x", *so_far[len(committed) :]), candidate)

    played = play(rules("ab"), propose, score, committed, 1)
    assert "b" in played.rounds[0].objected


def test_watchers_that_do_not_answer_count_for_no_quorum() -> None:
    same = mind("a b c d e f g h i j k l m n o p")
    agreeing = Minds({"a": same, "b": same, "c": same})

    def score(member: str, committed: tuple[str, ...], candidate: Candidate) -> Late | Score:
        return Late() if member != "a" else agreeing.score(member, committed, candidate)

    alone = play(rules(quorum=1, max_misses=9), agreeing.propose, score)
    assert alone.text == "".join(f" {word}" for word, _ in same)
    too_few = play(rules(quorum=2, max_misses=9), agreeing.propose, score)
    assert too_few.end == LoseQuorum(present=1, quorum=2)
    assert not too_few.rounds


def test_an_end_that_is_left_of_a_draft_ends_the_answer_even_fast() -> None:
    def propose(member: str, _committed: tuple[str, ...]) -> Proposal:
        return Proposal({"a": "x", "b": "x y"}[member], SegmentFinish.END, 2)

    def score(_member: str, _committed: tuple[str, ...], candidate: Candidate) -> Score:
        return Score(-1.0 if candidate.finished else -2.0, 0.5, 1, len(candidate.text))

    played = play(rules("ab", fast_finish=True, exit=ExitRules(ExitKind.NONE)), propose, score)
    assert [one.segment for one in played.rounds] == ["x", ""]
    assert played.states[-1].committed == ("x", "")
    assert played.end == Finish(FinishReason.STOP, "")


def test_patience_is_for_rounds_that_a_member_watched() -> None:
    same = mind("a b c d e f g h i j k l m n o p")
    agreeing = Minds({"a": same, "b": same, "c": same})
    for patience in (1, 3):
        exits = ExitRules(kind=ExitKind.WATCH, patience=patience, recall=False)
        played = agreeing.play(rules(exit=exits, segment_tokens=1))
        watched = [one.number for one in played.rounds if "b" in one.watched]
        (left,) = (one.number for one in played.rounds for gone in one.left if gone.member == "b")
        assert watched == list(range(1, 1 + patience))
        assert left == watched[-1]


def test_what_is_left_of_a_draft_and_loses_in_the_last_round_is_discarded() -> None:
    parting = Minds({"a": mind("x y"), "b": mind("x z")})
    played = parting.play(rules("ab", max_tokens=2, exit=ExitRules(ExitKind.NONE)))
    assert [one.segment for one in played.rounds] == [" x", " y"]
    assert played.asked_to_propose == [("a", "b")], "both have drafts left"
    assert [commit.discarded for commit in played.commits] == [{}, {"b": 1}]


def test_what_is_left_of_the_draft_of_who_watches_from_now_on_is_discarded() -> None:
    parting = Minds({"a": mind("x y z", guess=0.3), "b": mind("X y w")})

    def score(member: str, committed: tuple[str, ...], candidate: Candidate) -> Score:
        score = parting.score(member, committed, candidate)
        return score if member == "a" else score._replace(evidence=None)

    played = play(rules("ab", max_tokens=3), parting.propose, score)
    assert played.asked_to_propose == [("a",), ("b",)]
    assert [commit.discarded for commit in played.commits] == [{"b": 3}]


def test_a_draft_that_no_longer_fits_the_answer_is_discarded() -> None:
    """b's goes on for 3 more words, and the answer may have only 2."""
    long = Minds({"a": mind("x y"), "b": mind("x y z z z z")})

    def propose(member: str, committed: tuple[str, ...]) -> Proposal:
        words = " x" if member == "a" else " x y z z"
        return (
            Proposal(words, SegmentFinish.LENGTH, len(words.split()))
            if not committed
            else (Proposal(" y", SegmentFinish.END, 1))
        )

    settled = rules("ab", max_tokens=3, exit=ExitRules(ExitKind.NONE))
    played = play(settled, propose, long.score)
    assert played.rounds[0].segment == " x"
    assert played.commits[0].discarded == {"b": 3}


words = st.sampled_from(["x", "y.", "Z"])
sureness = st.sampled_from([0.2, 0.6, 0.97])
answers = st.lists(st.tuples(words, sureness), min_size=1, max_size=8)
minds = st.builds(
    lambda a, b, c, draft, further: Minds({"a": a, "b": b, "c": c}, draft, further),
    answers, answers, answers, st.integers(1, 4), st.sampled_from([None, 0, 1, 99]),
)  # fmt: skip


@given(minds)
def test_what_a_member_has_scored_it_is_not_asked_again_once_it_drafts(world: Minds) -> None:
    played = world.play(rules())
    scored = Counter(
        (state.round.number, member, candidate)
        for state, step in zip(played.states, played.steps, strict=True)
        if isinstance(step, Verify)
        for member, candidates in step.assignments.items()
        for candidate in candidates
    )
    assert set(scored.values()) <= {1}


@given(minds)
def test_a_confident_objector_is_always_heard_before_a_commit(world: Minds) -> None:
    settled = rules()
    played = world.play(settled)
    for commit in played.commits:
        committed = commit.round
        before = tuple(one.segment for one in played.rounds[: committed.number - 1])
        segment = Candidate(committed.segment, committed.candidates[0].candidate.finished)
        for member in committed.watched:
            if not segment.text:
                continue
            evidence = world.score(member, before, segment).evidence
            assert evidence is not None
            objecting = [one for one in evidence.places if objects(one, settled.objections)]
            assert not objecting, f"{member} was not heard on {segment}"


def test_who_tells_of_all_places_is_not_asked_again_for_what_is_left() -> None:
    """c would have written two words otherwise, and objects to the second only."""
    minds = {
        "a": mind("x Oslo y Arno z z", knows="Oslo"),
        "b": mind("x Oslo y Arno z z", knows="Oslo"),
        "c": [("x", 0.95), ("Rome", 0.3), ("y", 0.95), ("Po", 0.99), ("z", 0.95), ("z", 0.95)],
    }
    plays = {told: Minds(minds, further=told).play(rules()) for told in (None, 99)}
    assert {played.text for played in plays.values()} == {" x Oslo y Po z z"}
    assert {played.rounds[0].segment for played in plays.values()} == {" x Oslo y"}
    asked = {told: len(played.asked_to_score) for told, played in plays.items()}
    assert asked[99] < asked[None]


@given(minds)
def test_watching_changes_nothing_where_nobody_objects(world: Minds) -> None:
    unheard = ObjectionRules(regret=math.inf, entropy=ENTROPY)
    played = world.play(rules(objections=unheard, foresight=0.0))
    alone = world.play(rules("a", exit=ExitRules(kind=ExitKind.NONE)))
    assert played.text == alone.text


@given(minds, st.randoms())
def test_the_order_of_members_does_not_matter(world: Minds, random: Random) -> None:
    members = list("abc")
    random.shuffle(members)
    played, otherwise = world.play(rules()), world.play(rules("".join(members)))
    if _has_tie(played) or _has_tie(otherwise):
        return  # of equals, the order decides by design
    assert otherwise.text == played.text


def _has_tie(played: Played) -> bool:
    """Whether any vote was a tie, also one that came to nothing as somebody objected."""
    void = [
        by_vote(state, judges).fused
        for state in played.states
        if len(state.candidates) > 1 and (judges := verifiers(state))
    ]
    votes = [*void, *([c.share for c in one.candidates] for one in played.rounds)]
    return any(math.isclose(*two) for shares in votes for two in pairwise(sorted(shares)))


@given(minds)
def test_a_member_drafts_or_watches(world: Minds) -> None:
    played = world.play(rules())
    for state, step in zip(played.states, played.steps, strict=True):
        assert state.watching <= {*state.active, *state.dormant}
        if isinstance(step, Propose):
            assert set(step.members).isdisjoint(state.round.proposals)


def test_a_large_ensembles_drafts_are_left_out_of_calls_that_may_not_ask_more() -> None:
    members = tuple(f"m{number}" for number in range(40))

    def propose(member: str, committed: tuple[str, ...]) -> Proposal:
        return Proposal(f" {member} says", SegmentFinish.LENGTH, 2)

    def score(_member: str, _committed: tuple[str, ...], candidate: Candidate) -> Score:
        return Score(-1.0, 0.5, 1, len(candidate.text))

    large = rules(max_tokens=2, members=members, exit=ExitRules(ExitKind.NONE))
    asked = play(large, propose, score).asked_to_score[0]
    firsts = {f" {member}" for member in members}
    assert all(len(texts) == 64 and firsts <= {*texts} for texts in asked.values())


FORM = ("of", "it", "is", "said", "so")


@st.composite
def honest_worlds(draw: st.DrawFn) -> Minds:
    """Members that share a form, and of whose facts at least one member is sure of each.

    Who is not sure of a fact guesses, and knows that it does.
    """
    slots = draw(st.lists(st.sampled_from([*FORM, "Fact"]), min_size=4, max_size=14))
    minds: dict[str, list[tuple[str, float]]] = {member: [] for member in "abc"}
    for number, slot in enumerate(slots):
        knows = draw(st.sets(st.sampled_from("abc"), min_size=1))
        for member, words in minds.items():
            if slot != "Fact":
                words.append((slot, 0.95))
            elif member in knows:
                words.append((f"True{number}", 0.95))
            else:
                words.append((f"Guess{number}{draw(st.integers(0, 2))}", 0.3))
    return Minds(minds, draft=draw(st.integers(1, 4)))


@settings(max_examples=40)
@given(honest_worlds(), st.integers(1, 12))
def test_an_answer_that_is_resumed_is_the_one_that_was_interrupted(
    world: Minds, interrupted: int
) -> None:
    """Whoever watched drafts again, and what was left of drafts is drafted anew."""
    whole = world.play(rules(max_tokens=99))
    truth = "".join(
        f" {next((w for w, _ in at if w.startswith('True')), at[0][0])}"
        for at in zip(*world.minds.values(), strict=True)
    )
    assert whole.text == truth
    before = whole.rounds[: min(interrupted, len(whole.rounds) - 1)]
    committed = tuple(one.segment for one in before)
    tokens = sum(one.token_count for one in before)
    resumed = play(rules(max_tokens=99), world.propose, world.score, committed, tokens)
    assert "".join(committed) + resumed.text == truth


# How much is drafted at a time


def _asked_for(played: Played) -> list[tuple[tuple[str, ...], int]]:
    return [(step.members, step.max_tokens) for step in played.steps if isinstance(step, Propose)]


def test_while_all_agree_more_is_drafted_at_a_time() -> None:
    text = mind(" ".join(f"w{number}" for number in range(22)))
    world = Minds(dict.fromkeys("abc", text))
    assert _asked_for(world.play(rules(stretch_tokens=16, max_tokens=200)))[:4] == [
        (("a",), 4), (("a",), 8), (("a",), 16), (("a",), 16),
    ]  # fmt: skip
    assert {tokens for _, tokens in _asked_for(world.play(rules(max_tokens=200)))} == {4}


def test_no_more_is_drafted_than_the_answer_may_still_have() -> None:
    text = mind(" ".join(f"w{number}" for number in range(40)))
    world = Minds(dict.fromkeys("ab", text))
    played = world.play(rules("ab", stretch_tokens=64, max_tokens=14))
    assert [tokens for _, tokens in _asked_for(played)] == [4, 8, 6, 2]


def test_after_an_objection_as_much_is_drafted_as_at_first() -> None:
    agreed = " ".join(f"w{number}" for number in range(8))
    world = Minds(
        {
            "a": mind(f"{agreed} of coal the color is Pink and so on it goes"),
            "b": mind(f"{agreed} of coal the color is Black and so on it goes", knows="Black"),
        }
    )
    played = world.play(rules("ab", stretch_tokens=64))
    asked = _asked_for(played)
    objecting = next(number for number, (members, _) in enumerate(asked) if "b" in members)
    assert [tokens for _, tokens in asked[:objecting]] == [4, 8, 16, 32]
    assert asked[objecting][1] == 4, "an objector is asked for as much as usual"
    assert asked[objecting + 1][1] <= 8, "what all agreed on before counts no more"


@given(minds)
def test_how_much_is_drafted_at_a_time_changes_nothing_where_nobody_objects(world: Minds) -> None:
    unheard = ObjectionRules(regret=math.inf, entropy=ENTROPY)
    settled = rules(objections=unheard, foresight=0.0)
    assert world.play(replace(settled, stretch_tokens=64)).text == world.play(settled).text
