"""What a word leads to counts: a guess is seen for what it is before its sentence is begun."""

from __future__ import annotations

import math
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.rules import ExitKind, ExitRules, Rules, Vote
from fuser_service.core.types import Candidate, Evidence, Proposal, Score, SegmentFinish
from tests.support.played_query import Played, play

HONEST = " that is unknown."
STATED = " the color is {}."

Tree = dict[str, float]
"""How probable a member finds each of some sentences; they part at any word."""


def words_of(text: str) -> list[str]:
    return re.findall(r" \w+|\.", text)


class Speakers:
    """Members that each find some sentences more probable than others, and draft the likeliest."""

    def __init__(self, minds: dict[str, Tree]) -> None:
        self.minds = minds
        self.tokens = 8

    def play(self, **changes: object) -> Played:
        rules = Rules(
            tuple(self.minds),
            max_tokens=60,
            segment_tokens=self.tokens,
            vote=Vote.WORDS,
            **{"exit": ExitRules(kind=ExitKind.WATCH), **changes},  # type: ignore[arg-type]
        )
        return play(rules, self.propose, self.score)

    def odds(self, member: str, said: str) -> dict[str, float]:
        """How probable each next word is; "" is the end. After what it never says, it guesses."""
        odds: dict[str, float] = {}
        for text, probable in self.minds[member].items():
            if text.startswith(said):
                word = next(iter(words_of(text[len(said) :])), "")
                odds[word] = odds.get(word, 0.0) + probable
        if not odds:
            return {"": 0.3, **{f" {number}": 0.1 for number in range(7)}}
        total = math.fsum(odds.values())
        return {word: 0.999 * p / total for word, p in odds.items()}

    def propose(self, member: str, committed: tuple[str, ...]) -> Proposal:
        text = ""
        for count in range(self.tokens):
            odds = self.odds(member, "".join(committed) + text)
            word = max(odds, key=lambda one: (odds[one], one))
            if not word:
                return Proposal(text, SegmentFinish.END, count)
            text += word
        return Proposal(text, SegmentFinish.LENGTH, self.tokens)

    def score(self, member: str, committed: tuple[str, ...], candidate: Candidate) -> Score:
        said, rows, at = "".join(committed), [], 0
        for word in [*words_of(candidate.text), *([""] if candidate.finished else [])]:
            odds = self.odds(member, said)
            p, best = odds.get(word, 0.001), max(odds.values())
            entropy = -math.fsum(q * math.log(q) for q in odds.values())
            rows.append((math.log(p), max(0.0, math.log(best / p)), entropy, at))
            said, at = said + word, at + len(word)
        worst = max(rows, key=lambda row: row[1])
        weakest = min(rows)
        total = math.fsum(row[0] for row in rows)
        evidence = Evidence(
            math.fsum(r[1] for r in rows), worst[1], worst[3], worst[2], weakest[0], weakest[3]
        )
        return Score(total, math.exp(total / len(rows)), len(rows), at, evidence)


OTHERS = ("one", "two", "three", "four")


def honest(sure: float) -> Tree:
    return {HONEST: sure} | {STATED.format(color): (1 - sure) / 4 for color in OTHERS}


def states(color: str, sure: float) -> Tree:
    return {STATED.format(color): sure} | {STATED.format(c): (1 - sure) / 4 for c in OTHERS}


GUESSERS = {"b": states("red", 0.5), "c": states("blue", 0.6)}


def test_who_says_that_nobody_knows_is_not_outvoted_by_guesses() -> None:
    speakers = Speakers({"a": honest(0.9), **GUESSERS})
    assert speakers.play().text == HONEST
    assert speakers.play(exit=ExitRules(kind=ExitKind.NONE)).text == HONEST
    assert speakers.play(foresight=0.0).text != HONEST  # they all would begin with "the"


def test_who_knows_is_heard_among_those_that_say_that_nobody_does() -> None:
    knower = {"k": states("green", 0.99)}
    speakers = Speakers({"a": honest(0.9), "d": honest(0.9), **GUESSERS, **knower})
    assert speakers.play().text == STATED.format("green")


def test_who_knows_how_anothers_sentence_should_go_on_makes_it_worth_beginning() -> None:
    """Watching, it drafted nothing, and judges what others drafted."""
    knower = {"k": {" so" + STATED.format("green"): 0.02, **states("green", 0.98)}}
    speakers = Speakers({"a": honest(0.9), "b": states("red", 0.5), **knower})
    assert speakers.play().text == STATED.format("green")


def open_ended(form: str, sure: float) -> Tree:
    """One of many things to say, in a form of its own."""
    rest = (1 - sure) / 4
    return {form.format("red"): sure} | {form.format(color): rest for color in OTHERS}


@given(st.floats(0.25, 0.48), st.floats(0.25, 0.48))
def test_less_than_half_sure_is_unsure_however_much_less(one: float, other: float) -> None:
    speakers = Speakers({"a": open_ended(STATED, one), "b": open_ended(" it may be {}.", other)})
    shares = [[c.share for c in committed.candidates] for committed in speakers.play().rounds]
    blind = [[c.share for c in c_.candidates] for c_ in speakers.play(foresight=0.0).rounds]
    assert shares[0] == pytest.approx(blind[0])


sureness = st.floats(0.3, 0.99)
colors = st.sampled_from(["red", "blue", "green"])
speakers = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(honest, st.floats(0.55, 0.99)) | st.builds(states, colors, sureness),
    min_size=2,
).map(Speakers)


@given(speakers, st.randoms())
def test_the_order_of_members_does_not_matter(one: Speakers, random: Random) -> None:
    played = one.play()
    shares = [[c.share for c in committed.candidates] for committed in played.rounds]
    if any(len(set(given)) < len(given) for given in shares):
        return  # of equals, the order decides by design
    members = list(one.minds)
    random.shuffle(members)
    assert Speakers({m: one.minds[m] for m in members}).play().text == played.text


unsure = st.builds(honest, st.floats(0.55, 0.8)) | st.builds(states, colors, st.floats(0.3, 0.8))


@given(unsure, unsure)
def test_what_somebody_is_certain_of_is_stated(one: Tree, other: Tree) -> None:
    certain = Speakers({"a": one, "b": other, "k": {STATED.format("gold"): 1.0}})
    assert certain.play().text == STATED.format("gold")


@pytest.mark.parametrize("foresight", [16.0, 32.0, 48.0, 64.0])
def test_half_and_twice_as_much_foresight_say_the_same(foresight: float) -> None:
    speakers = Speakers({"a": honest(0.9), **GUESSERS})
    assert speakers.play(foresight=foresight).text == HONEST


def test_a_word_that_nobody_thought_possible_does_not_make_all_others_so() -> None:
    """What is known of it alone is that nothing is: that is no bound for what is not known."""
    drafts = {
        "a": Proposal(" x y", SegmentFinish.LENGTH, 2),
        "b": Proposal(" z", SegmentFinish.LENGTH, 1),
    }
    chances = {" x": {"a": -1.0, "b": -math.inf}, " z": {"a": -0.1, "b": -0.1}}

    def score(member: str, _committed: tuple[str, ...], candidate: Candidate) -> Score:
        logprob = -math.inf if candidate.text == " x y" else chances[candidate.text][member]
        return Score(logprob, math.exp(logprob), 1, len(candidate.text))

    rules = Rules(("a", "b"), 1, 2, vote=Vote.WORDS, exit=ExitRules(kind=ExitKind.NONE))
    played = play(rules, lambda member, _: drafts[member], score)
    assert played.rounds[0].segment == " z"
