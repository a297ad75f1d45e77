"""The round state machine, by worked examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pytest

from fuser_service.core import rounds
from fuser_service.core.commit import AvoidedCalls
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
    Ok,
    Propose,
    Refused,
    Verify,
)
from fuser_service.core.types import (
    Candidate,
    Departure,
    DepartureReason,
    Evidence,
    FinishReason,
    Proposal,
    Score,
    SegmentFinish,
)
from tests.support.members import END, STOP, proposal, score
from tests.support.played_query import Played, play

STAY = ExitRules(kind=ExitKind.NONE)
LEAVE = ExitRules(kind=ExitKind.ENTROPY_SOFTMAX, tau0=0.1, recall=False)
RECALL = replace(LEAVE, recall=True, recall_ratio=0.9)

MakeRules = Callable[..., Rules]


def segments(members: str = "ab", **changes: object) -> Rules:
    """Rules of a vote on segments for members with one-letter names; nobody leaves unless said."""
    settings = {"members": tuple(members), "max_tokens": 100, "exit": STAY, **changes}
    return Rules(**{"vote": Vote.SEGMENTS, **settings})  # type: ignore[arg-type]


@pytest.fixture(params=Vote, ids=lambda vote: vote.value)
def rules(request: pytest.FixtureRequest) -> MakeRules:
    """The same rules of each vote: for what does not depend on what is voted on."""
    return partial(segments, vote=request.param)


class Script:
    """Per round (by committed segments) what members propose and how probable they find what."""

    def __init__(
        self,
        *lines: Mapping[str, object],
        opinions: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.lines = lines
        self.opinions = opinions

    def proposer(self, member: str, committed: tuple[str, ...]) -> object:
        said = self.lines[len(committed)][member]
        return proposal(said) if isinstance(said, str) else said

    def verifier(self, member: str, committed: tuple[str, ...], candidate: Candidate) -> object:
        opinion = {"": 0.9, **self.opinions[member]}[candidate.text]
        return score(opinion) if isinstance(opinion, float) else opinion

    def play(self, rules: Rules, **resumed: object) -> Played:
        return play(rules, self.proposer, self.verifier, **resumed)  # type: ignore[arg-type]


def done(text: str = "", **kwargs: float) -> Proposal:
    return proposal(text, END, **kwargs)  # type: ignore[arg-type]


# One round


def test_a_scored_round_by_hand() -> None:
    played = Script(
        {"a": done(" x"), "b": done(" y")},
        opinions={"a": {" x": 0.6, " y": 0.3}, "b": {" x": 0.1, " y": 0.3}},
    ).play(segments())
    # a's shares: 0.6 / 0.9, 0.3 / 0.9 = 2/3, 1/3. b's: 0.1 / 0.4, 0.3 / 0.4 = 1/4, 3/4.
    # Fused: (2/3 + 1/4) / 2 = 11/24 for x, (1/3 + 3/4) / 2 = 13/24 for y.
    (committed,) = played.rounds
    assert committed.winner == "b"
    assert committed.segment == committed.text == " y"
    best, other = committed.candidates
    assert (best.candidate.text, best.proposers) == (" y", ("b",))
    assert best.share == pytest.approx(13 / 24)
    assert dict(best.judgements) == pytest.approx({"a": 1 / 3, "b": 3 / 4})
    assert other.share == pytest.approx(11 / 24)
    assert played.end == Finish(FinishReason.STOP, "")
    assert played.asked_to_score == [{"a": (" x", " y"), "b": (" x", " y")}]


def test_the_statistic_decides() -> None:
    # One text of 8 bytes in 2 tokens, the other of 2 bytes in 1 token.
    # geometric: 0.5 against 0.4. mean_probability: 0.5 against 0.6. per_byte: 0.25^(1/8) = 0.84
    # against 0.4^(1/2) = 0.63.
    opinions = {
        " eightby": Score(math.log(0.25), 0.5, 2, 8),
        " y": Score(math.log(0.4), 0.6, 1, 2),
    }
    script = Script(
        {"a": done(" eightby"), "b": done(" y")}, opinions=dict.fromkeys("ab", opinions)
    )
    winners = {s: script.play(segments(statistic=s)).rounds[0].segment for s in Statistic}
    assert winners == {
        Statistic.GEOMETRIC: " eightby",
        Statistic.MEAN_PROBABILITY: " y",
        Statistic.PER_BYTE: " eightby",
    }


def test_of_equal_shares_the_earlier_member_wins(rules: MakeRules) -> None:
    script = Script(
        {"a": done(" x"), "b": done(" y")}, opinions={m: {" x": 0.5, " y": 0.5} for m in "ab"}
    )
    assert script.play(rules("ab")).rounds[0].winner == "a"
    assert script.play(rules("ba")).rounds[0].winner == "b"


def test_a_consensus_is_committed_without_scores(rules: MakeRules) -> None:
    played = Script({"a": " x", "b": " x"}, {"a": done(), "b": done()}, opinions={}).play(rules())
    assert played.asked_to_score == []
    first, second = played.rounds
    assert first.candidates[0].share == 1.0
    assert first.candidates[0].judgements == ()
    assert first.candidates[0].proposers == ("a", "b")
    assert second.segment == ""
    assert played.commits[0].avoided == (
        AvoidedCalls("a", "consensus", propose=0, score=1),
        AvoidedCalls("b", "consensus", propose=0, score=1),
    )


def test_finished_and_unfinished_are_different_candidates() -> None:
    played = Script(
        {"a": done(" x"), "b": " x"}, opinions={"a": {" x": 0.5}, "b": {" x": 0.5}}
    ).play(segments())
    assert [len(c) for c in played.asked_to_score[0].values()] == [2, 2]


def test_an_own_score_is_not_asked_for_again() -> None:
    played = Script(
        {"a": done(" x", own=0.6), "b": done(" y", own=0.3)},
        opinions={"a": {" y": 0.3}, "b": {" x": 0.1}},
    ).play(segments())
    assert played.asked_to_score == [{"a": (" y",), "b": (" x",)}]
    assert played.rounds[0].candidates[0].share == pytest.approx(13 / 24)  # as when all are asked


def test_a_member_with_nothing_to_propose_still_judges(rules: MakeRules) -> None:
    played = Script(
        {"a": done(" x"), "b": done(" y"), "c": ""},
        opinions={
            "a": {" x": 0.6, " y": 0.4},
            "b": {" x": 0.4, " y": 0.6},
            "c": {" x": 0.1, " y": 0.9},
        },
    ).play(rules("abc"))
    assert played.rounds[0].winner == "b"
    assert played.rounds[0].took_part == ("a", "b", "c")


def test_drop_elects_by_the_others() -> None:
    opinions = {
        "a": {" x": 0.98, " y": 0.01, " z": 0.01},
        "b": {" x": 0.1, " y": 0.5, " z": 0.4},
        "c": {" x": 0.1, " y": 0.5, " z": 0.4},
    }
    script = Script({"a": done(" x"), "b": done(" y"), "c": done(" z")}, opinions=opinions)
    # Include: x gets 1.18 / 3, y 1.01 / 3. Drop: x 0.2 / 2, y 0.51 / 2, z 0.41 / 2.
    assert script.play(segments("abc")).rounds[0].winner == "a"
    assert script.play(segments("abc", self_judgement=SelfJudgement.DROP)).rounds[0].winner == "b"


def test_fast_finish_takes_a_finished_candidate_unscored() -> None:
    script = Script(
        {"a": " x", "b": done(" y"), "c": done(" z")},
        opinions={m: {" x": 0.8, " y": 0.1, " z": 0.1} for m in "abc"},
    )
    played = script.play(segments("abc", fast_finish=True))
    assert played.asked_to_score == []
    (committed,) = played.rounds
    assert (committed.winner, committed.segment) == ("b", " y")
    assert [c.share for c in committed.candidates] == [1.0, 0.0, 0.0]
    assert [a.because for a in played.commits[0].avoided] == ["consensus"] * 3


# Weights


def test_hedge_moves_weight_to_whom_the_others_prefer(rules: MakeRules) -> None:
    line = {"a": " x", "b": " y", "c": " z"}
    opinions = {
        "a": {" x": 0.5, " y": 0.4, " z": 0.1},
        "b": {" x": 0.4, " y": 0.5, " z": 0.1},
        "c": {" x": 0.5, " y": 0.4, " z": 0.1},
    }
    played = Script(line, line, opinions=opinions).play(
        rules("abc", weighting=Weighting.HEDGE, eta=3.0, max_tokens=2)
    )
    # Rewards: a: b prefers y, not z, c prefers x twice: 3/4. b: a: not x, but z; c the same: 2/4.
    # c: 0. Rate: 3 sqrt(1/3) / 1 = 1.7321.
    raised = [math.exp(math.sqrt(3) * reward) for reward in (0.75, 0.5, 0.0)]
    weights = played.states[-2].weights.among("abc")
    assert list(weights.values()) == pytest.approx([r / sum(raised) for r in raised])
    # Round 2 is judged with them.
    x = sum(w * opinions[m][" x"] for m, w in weights.items())
    assert played.rounds[1].candidates[0].share == pytest.approx(x)


def test_uniform_weights_stay(rules: MakeRules) -> None:
    line = {"a": " x", "b": " y"}
    opinions = {"a": {" x": 0.9, " y": 0.1}, "b": {" x": 0.8, " y": 0.2}}
    played = Script(line, line, opinions=opinions).play(rules(max_tokens=2))
    assert played.states[-1].weights.among("ab") == {"a": 0.5, "b": 0.5}


# The end


def test_max_tokens_are_the_winners_and_limit_the_segment(rules: MakeRules) -> None:
    said = {"a": proposal(" x x x", tokens=3)}
    played = Script(said, said, {"a": proposal(" x", tokens=1)}, opinions={}).play(
        rules("a", max_tokens=7, segment_tokens=4)
    )
    limits = [step.max_tokens for step in played.steps if isinstance(step, Propose)]
    assert limits == [4, 4, 1]
    assert played.end == Finish(FinishReason.LENGTH, "")
    assert [committed.token_count for committed in played.rounds] == [3, 3, 1]


def test_being_complete_comes_before_being_long(rules: MakeRules) -> None:
    played = Script({"a": done(" x")}, opinions={}).play(rules("a", max_tokens=1))
    assert played.end == Finish(FinishReason.STOP, "")


def test_a_stop_string_over_two_members_segments(rules: MakeRules) -> None:
    played = Script({"a": " one #"}, {"a": proposal("## two", tokens=2)}, opinions={}).play(
        rules("a", stop=("###",))
    )
    assert [committed.segment for committed in played.rounds] == [" one #", "## two"]
    assert [committed.text for committed in played.rounds] == [" one ", ""]
    assert played.end == Finish(FinishReason.STOP, "")
    assert played.text == " one "


def test_a_stopped_proposal_is_judged_without_an_end_token() -> None:
    played = Script(
        {"a": proposal(" x.", STOP), "b": " y"},
        opinions={"a": {" x.": 0.9, " y": 0.1}, "b": {" x.": 0.9, " y": 0.1}},
    ).play(segments(stop=(".",)))
    assert isinstance(played.steps[1], Verify)
    assert played.steps[1].assignments["a"][0] == Candidate(" x.", finished=False)
    assert played.text == " x"
    assert played.end == Finish(FinishReason.STOP, "")


def test_what_was_held_back_comes_with_the_end(rules: MakeRules) -> None:
    played = Script({"a": done(" x #")}, opinions={}).play(rules("a", stop=("##",)))
    assert played.rounds[0].text == " x "
    assert played.end == Finish(FinishReason.STOP, "#")


def test_if_nobody_has_anything_to_say_the_answer_ends_with_length(rules: MakeRules) -> None:
    played = Script({"a": " x", "b": " x"}, {"a": "", "b": ""}, opinions={}).play(rules())
    assert len(played.rounds) == 1
    assert played.end == Finish(FinishReason.LENGTH, "")


# Resumption


def test_a_resumed_query_goes_on_after_its_segments(rules: MakeRules) -> None:
    played = Script({}, {"a": done(" y")}, opinions={}).play(
        rules("a", max_tokens=9), committed=(" x",), committed_tokens=4
    )
    assert played.text == " y"
    assert played.rounds[0].number == 1
    assert played.steps[0] == Propose(("a",), max_tokens=5, required=1)
    assert played.states[-1].committed == (" x", " y")


def test_a_resumed_query_remembers_what_was_held_back(rules: MakeRules) -> None:
    played = Script({}, {"a": done("- y")}, opinions={}).play(
        rules("a", stop=("---",)), committed=(" x -",), committed_tokens=2
    )
    assert played.text == "-- y"


@pytest.mark.parametrize(
    ("committed", "tokens", "end"),
    [
        ((" x #", "# y"), 3, Finish(FinishReason.STOP, "")),
        ((" x",), 9, Finish(FinishReason.LENGTH, "")),
        ((" x #",), 9, Finish(FinishReason.LENGTH, "#")),
        ((" x ##",), 99, Finish(FinishReason.STOP, "")),
    ],
)
def test_a_resumed_query_may_be_complete(
    rules: MakeRules, committed: tuple[str, ...], tokens: int, end: Finish
) -> None:
    transition = rounds.start(rules("a", max_tokens=9, stop=("##",)), committed, tokens)
    assert transition.step == end
    assert transition.commit is None


# Failures and lateness


def gone(detail: str = "UNAVAILABLE: connection refused") -> Failed:
    return Failed(detail)


def unreached() -> Failed:
    return Failed("UNAVAILABLE: connection refused", may_pass=True)


def test_a_failure_loses_the_member_and_nothing_else(rules: MakeRules) -> None:
    played = Script(
        {"a": gone(), "b": " y", "c": " z"},
        {"b": done(" y"), "c": done(" y")},
        opinions={"b": {" y": 0.9, " z": 0.1}, "c": {" y": 0.9, " z": 0.1}},
    ).play(rules("abc"))
    lost = Departure("a", DepartureReason.FAILED, "UNAVAILABLE: connection refused")
    assert played.rounds[0].left == (lost,)
    assert played.rounds[0].took_part == ("b", "c")
    assert played.rounds[1].left == ()
    assert played.asked_to_propose == [("a", "b", "c"), ("b", "c")]
    assert played.states[-1].lost == (lost,)


def test_who_could_not_be_reached_is_asked_again_after_ever_more_rounds(rules: MakeRules) -> None:
    lines = [{"a": unreached(), "b": " y"} for _ in range(7)]
    played = Script(*lines, {"b": done(" y"), "a": unreached()}, opinions={}).play(rules())
    asked = [members for members in played.asked_to_propose if "a" in members]
    assert [members == ("a", "b") for members in played.asked_to_propose] == [
        *(True, True, False, True),
        *(False, False, False, True),
    ]
    assert len(asked) == 4
    assert played.rounds[1].recalled == ("a",)
    assert played.states[-1].lost == (played.rounds[0].left[0],), "named once"


def test_who_comes_back_takes_part_again_with_the_mean_quality(rules: MakeRules) -> None:
    likes_y = {" y": 0.9, " z": 0.1}
    played = Script(
        {"a": " y", "b": " z", "c": unreached()},
        {"a": " y", "b": " z", "c": " y"},
        {"a": done(" y"), "b": done(" y"), "c": done(" y")},
        opinions=dict.fromkeys("abc", likes_y),
    ).play(rules("abc"))
    assert played.rounds[0].took_part == ("a", "b")
    assert played.rounds[1].took_part == ("a", "b", "c")
    assert played.rounds[1].recalled == ("c",)
    back = next(state for state in played.states if state.round.number == 2)
    assert back.quality["c"] == pytest.approx((back.quality["a"] + back.quality["b"]) / 2)
    assert [departure.member for departure in played.states[-1].lost] == ["c"]


def test_who_gave_what_no_model_may_give_is_not_asked_again(rules: MakeRules) -> None:
    lines = [{"a": Failed("MODEL_FAILURE: nan"), "b": " y"} for _ in range(4)]
    played = Script(*lines, {"b": done(" y")}, opinions={}).play(rules())
    assert played.asked_to_propose == [("a", "b"), *[("b",)] * 4]


def test_steps_say_whether_members_stand_by() -> None:
    likes_y = {" y": 0.9, " z": 0.01}
    played = Script(
        {"a": " y", "b": " z"},
        {"a": " y", "b": " z"},
        {"a": done(" y"), "b": " z"},
        opinions=dict.fromkeys("ab", likes_y),
    ).play(segments(exit=LEAVE))
    left = [bool(state.dormant) for state in played.states]
    asked = [step for step in played.steps if isinstance(step, Propose | Verify)]
    assert [step.standing_by for step in asked] == left[: len(asked)]
    assert {step.standing_by for step in asked} == {False, True}


def test_the_candidate_of_a_member_lost_while_scoring_may_win(rules: MakeRules) -> None:
    failing = {" x": gone(), " y": gone()}
    played = Script(
        {"a": done(" x"), "b": done(" y")},
        opinions={"a": failing, "b": {" x": 0.9, " y": 0.1}},
    ).play(rules())
    assert played.rounds[0].winner == "a"
    assert played.rounds[0].left[0].member == "a"
    assert dict(played.rounds[0].candidates[0].judgements) == pytest.approx({"b": 0.9})


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (proposal(" x", tokens=0), "token_count is 0, must be at least 1"),
        (
            Proposal(" x", SegmentFinish.END, 1, Score(math.nan, 0.5, 1, 2)),
            "logprob_sum is nan",
        ),
    ],
)
def test_a_proposal_that_cannot_be_is_its_members_failure(
    rules: MakeRules, bad: Proposal, named: str
) -> None:
    played = Script({"a": bad, "b": done(" y")}, opinions={}).play(rules())
    assert played.rounds[0].winner == "b"
    (lost,) = played.states[-1].lost
    assert lost.reason is DepartureReason.FAILED
    assert named in lost.detail


def test_scores_that_are_no_numbers_are_their_members_failure(rules: MakeRules) -> None:
    nan = Score(math.nan, math.nan, 1, 2)
    played = Script(
        {"a": done(" x"), "b": done(" y")},
        opinions={"a": {" x": nan, " y": nan}, "b": {" x": 0.2, " y": 0.8}},
    ).play(rules())
    assert played.rounds[0].winner == "b"
    assert "MODEL_FAILURE: logprob_sum is nan" in played.states[-1].lost[0].detail


def test_evidence_of_another_text_is_its_members_failure(rules: MakeRules) -> None:
    elsewhere = score(0.9)._replace(evidence=Evidence(1.0, 1.0, 3, None, -1.0, 0))
    played = Script(
        {"a": done(" x"), "b": done(" y")},
        opinions={"a": {" x": elsewhere, " y": score(0.1)}, "b": {" x": 0.2, " y": 0.8}},
    ).play(rules())
    assert played.rounds[0].winner == "b"
    assert "MODEL_FAILURE: regret_offset is 3" in played.states[-1].lost[0].detail


def test_too_few_scores_are_a_failure(rules: MakeRules) -> None:
    first = rounds.start(rules())
    assert isinstance(first.step, Propose)
    proposals = {"a": Ok(proposal(" x")), "b": Ok(proposal(" y"))}
    second = rounds.proposed(first.state, first.step, proposals)
    assert isinstance(second.step, Verify)
    third = rounds.scored(
        second.state,
        second.step,
        {"a": Ok((score(0.5),)), "b": Ok((score(0.5), score(0.4)))},
    )
    assert third.state.lost[0].detail == "MODEL_FAILURE: 1 scores for 2 candidates"


def test_a_late_member_sits_the_round_out_and_then_leaves(rules: MakeRules) -> None:
    line = {"a": " x", "b": Late()}
    played = Script(line, line, {"a": done(" x")}, opinions={}).play(rules(max_misses=2))
    assert [committed.left for committed in played.rounds] == [
        (),
        (Departure("b", DepartureReason.STRAGGLER, "late in 2 rounds"),),
        (),
    ]
    assert played.asked_to_propose == [("a", "b"), ("a", "b"), ("a",)]
    assert [committed.took_part for committed in played.rounds] == [("a",)] * 3


def test_a_member_late_with_its_scores_is_not_counted_among_the_judges(rules: MakeRules) -> None:
    played = Script(
        {"a": done(" x"), "b": done(" y"), "c": done(" y")},
        opinions={
            "a": {" x": 0.9, " y": 0.1},
            "b": {" x": Late(), " y": Late()},
            "c": {" x": 0.7, " y": 0.3},
        },
    ).play(rules("abc"))
    assert played.rounds[0].winner == "a"
    assert [judge for judge, _ in played.rounds[0].candidates[0].judgements] == ["a", "c"]


def test_lateness_costs_no_standing(rules: MakeRules) -> None:
    # b is late in round 1, then as good as a. Without credit it would be 0.5 behind and leave.
    played = Script(
        {"a": " x", "b": Late(), "c": " z"},
        {"a": " x", "b": " y", "c": " x"},
        {m: done() for m in "abc"},
        opinions={m: {" x": 0.5, " y": 0.5, " z": 0.5} for m in "abc"},
    ).play(rules("abc", exit=LEAVE))
    assert played.states[2].quality == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.5})
    assert all(committed.left == () for committed in played.rounds)


def test_a_busy_member_sits_rounds_out_and_is_asked_again(rules: MakeRules) -> None:
    busy = {"a": " x", "b": Busy()}
    played = Script(busy, busy, busy, {"a": done(" y"), "b": done(" y")}, opinions={}).play(
        rules(max_misses=1)
    )
    assert played.asked_to_propose == [("a", "b")] * 4
    assert [committed.took_part for committed in played.rounds] == [("a",)] * 3 + [("a", "b")]
    assert played.states[-1].lost == ()


def test_a_busy_verifier_has_no_vote_and_keeps_its_candidate(rules: MakeRules) -> None:
    played = Script(
        {"a": done(" x"), "b": done(" y")},
        opinions={"a": {" x": 0.1, " y": 0.9}, "b": {" x": Busy(), " y": Busy()}},
    ).play(rules())
    assert played.rounds[0].winner == "b"
    assert [judge for judge, _ in played.rounds[0].candidates[0].judgements] == ["a"]


def test_the_query_is_lost_when_too_many_are_busy(rules: MakeRules) -> None:
    played = Script({"a": " x", "b": Busy()}, opinions={}).play(rules(quorum=2))
    assert played.end == LoseQuorum(present=1, quorum=2)


# Context windows


def full() -> Refused:
    return Refused("CONTEXT_TOO_LONG: no", outgrown=True)


def test_a_member_that_refuses_leaves_at_once(rules: MakeRules) -> None:
    line = {"a": " x", "b": Refused("INVALID_ARGUMENT: no")}
    played = Script(line, {"a": done(" y")}, opinions={}).play(rules())
    assert played.states[-1].lost == (
        Departure("b", DepartureReason.REJECTED, "INVALID_ARGUMENT: no"),
    )


def test_an_answer_that_outgrows_every_window_ends_with_length(rules: MakeRules) -> None:
    script = Script(
        {"a": " x #", "b": " x #"}, {"a": " x #", "b": full()}, {"a": full()}, opinions={}
    )
    played = script.play(rules(stop=("##",)))
    assert played.end == Finish(FinishReason.LENGTH, "#")
    assert played.text == " x # x #"


def test_an_answer_may_outgrow_its_verifiers(rules: MakeRules) -> None:
    played = Script(
        {"a": " x", "b": " x"},
        {"a": " y", "b": " z"},
        opinions={m: {" y": full(), " z": full()} for m in "ab"},
    ).play(rules())
    assert played.end == Finish(FinishReason.LENGTH, "")
    assert played.text == " x"


def test_windows_may_become_too_small_at_both_steps_of_a_round(rules: MakeRules) -> None:
    played = Script(
        dict.fromkeys("abc", " x"),
        {"a": full(), "b": " y", "c": " z"},
        opinions={m: {" y": full(), " z": full()} for m in "bc"},
    ).play(rules("abc"))
    assert played.end == Finish(FinishReason.LENGTH, "")


@pytest.mark.parametrize("trouble", [Late(), Busy(), Failed("UNAVAILABLE: gone")])
def test_who_is_missing_for_another_reason_might_have_gone_on(
    rules: MakeRules, trouble: object
) -> None:
    script = Script({"a": " x", "b": " x"}, {"a": full(), "b": trouble}, opinions={})
    assert script.play(rules()).end == LoseQuorum(present=0, quorum=1)


def test_a_window_outgrown_before_is_not_why_the_answer_ends_now(rules: MakeRules) -> None:
    line = {"a": " x", "b": full()}
    script = Script({"a": " x", "b": " x"}, line, {"a": gone()}, opinions={})
    assert script.play(rules()).end == LoseQuorum(present=0, quorum=1)


def test_what_does_not_fit_from_the_start_is_a_mistake(rules: MakeRules) -> None:
    played = Script({}, {"a": full()}, opinions={}).play(
        rules("a"), committed=(" x",), committed_tokens=1
    )
    assert played.end == LoseQuorum(present=0, quorum=1)


# Quorum


def test_the_query_is_lost_with_its_last_member(rules: MakeRules) -> None:
    played = Script({"a": " x", "b": " x"}, {"a": gone(), "b": gone()}, opinions={}).play(rules())
    assert played.end == LoseQuorum(present=0, quorum=1)
    assert played.states[-1].committed == (" x",)


def test_the_query_is_lost_below_its_quorum(rules: MakeRules) -> None:
    played = Script({"a": " x", "b": gone(), "c": Late()}, opinions={}).play(rules("abc", quorum=2))
    assert played.end == LoseQuorum(present=1, quorum=2)
    assert played.rounds == []


def test_the_quorum_must_judge_as_well(rules: MakeRules) -> None:
    failing = {" x": gone(), " y": gone()}
    played = Script(
        {"a": " x", "b": " y"},
        opinions={"a": failing, "b": {" x": 0.5, " y": 0.5}},
    ).play(rules(quorum=2))
    assert played.end == LoseQuorum(present=1, quorum=2)


def test_how_many_answers_are_required(rules: MakeRules) -> None:
    first = rounds.start(rules("abcde", quorum=3))
    assert first.step == Propose(tuple("abcde"), max_tokens=10, required=3)


# Exit and recall. In the first round a's " x" takes 0.9 of everyone's approval, and b leaves:
# Q = (0.9, 0.1), H = 0.469, p_b = 1 / (1 + exp(0.8 / 0.0469)) < 0.25.

FIRST = {"a": " x", "b": " y"}
OPINIONS = {"a": {" x": 0.9, " y": 0.1}, "b": {" x": 0.9, " y": 0.1}}


def test_who_keeps_losing_leaves_and_is_not_asked() -> None:
    played = Script(FIRST, {"a": done()}, opinions=OPINIONS).play(segments(exit=LEAVE))
    assert played.rounds[0].left == (Departure("b", DepartureReason.EXIT),)
    assert played.rounds[1].took_part == ("a",)
    assert played.asked_to_propose == [("a", "b"), ("a",)]
    assert played.commits[1].avoided == (
        AvoidedCalls("b", "exit", propose=1, score=1),
        AvoidedCalls("a", "consensus", propose=0, score=1),
    )
    assert played.states[-1].lost == ()


def test_nobody_leaves_when_the_answer_ends(rules: MakeRules) -> None:
    played = Script({"a": done(" x"), "b": " y"}, opinions=OPINIONS).play(rules(exit=LEAVE))
    assert played.rounds[0].left == ()


def test_faltering_confidence_calls_members_back_before_the_commit() -> None:
    played = Script(
        FIRST,
        {"a": proposal(" u", own=0.5), "b": proposal(" v")},
        {"a": done(), "b": done()},
        opinions={
            "a": {**OPINIONS["a"], " v": 0.5},
            "b": {**OPINIONS["b"], " u": 0.1, " v": 0.9},
        },
    ).play(segments(exit=RECALL))
    # 0.5 < 0.9 * 0.9. b returns, alone proposes, and scores both; a scores only what is new to it.
    assert played.asked_to_propose[:3] == [("a", "b"), ("a",), ("b",)]
    assert played.asked_to_score[1] == {"a": (" v",), "b": (" u", " v")}
    second = played.rounds[1]
    assert second.recalled == ("b",)
    assert second.took_part == ("a", "b")
    # a: 1/2, 1/2; b: 1/10, 9/10.
    assert second.winner == "b"
    assert second.candidates[0].share == pytest.approx(0.7)
    assert second.number == 2
    # All quality restarted before this round, so this round alone is its evidence:
    # Q = (0.3, 0.7): H = 0.881, p_a = 1 / (1 + exp(0.4 / 0.0881)) = 0.011 < 0.25.
    assert second.left == (Departure("a", DepartureReason.EXIT),)


def test_quality_restarts_when_members_come_back() -> None:
    played = Script(
        FIRST,
        {"a": proposal(" u", own=0.5), "b": proposal(" v")},
        {"a": done(), "b": done()},
        opinions={
            "a": {**OPINIONS["a"], " v": 0.5},
            "b": {**OPINIONS["b"], " u": 0.5, " v": 0.5},
        },
    ).play(segments(exit=RECALL))
    final = played.states[-2]
    assert final.quality == pytest.approx({"a": 0.5, "b": 0.5})
    assert final.quality_rounds == 1
    assert final.dormant == ()


def test_confidence_that_holds_calls_nobody() -> None:
    played = Script(FIRST, {"a": done(" u", own=0.82)}, opinions=OPINIONS).play(
        segments(exit=RECALL)
    )
    assert played.asked_to_propose == [("a", "b"), ("a",)]


def test_unknown_confidence_is_asked_for_while_members_stand_by() -> None:
    script = Script(
        FIRST,
        {"a": " u", "b": " v"},
        {"a": done(), "b": done()},
        opinions={
            "a": {**OPINIONS["a"], " u": 0.5, " v": 0.5},
            "b": {**OPINIONS["b"], " u": 0.1, " v": 0.9},
        },
    )
    played = script.play(segments(exit=RECALL))
    assert played.asked_to_score[1:3] == [{"a": (" u",)}, {"a": (" v",), "b": (" u", " v")}]
    assert played.rounds[1].recalled == ("b",)
    # Without recall there is no use for it.
    played = script.play(segments(exit=LEAVE, max_tokens=2))
    assert len(played.asked_to_score) == 1


def test_a_confidence_that_nobody_can_tell_calls_nobody() -> None:
    played = Script(
        FIRST,
        {"a": " u"},
        {"a": done()},
        opinions={**OPINIONS, "a": {**OPINIONS["a"], " u": Late(), "": 0.9}},
    ).play(segments(exit=RECALL, max_misses=9))
    assert [committed.recalled for committed in played.rounds] == [(), (), ()]


def test_a_member_lost_while_asked_how_sure_it_is_leaves_its_segment_behind() -> None:
    played = Script(
        FIRST,
        {"a": " u"},
        {"b": done(" v")},
        opinions={**OPINIONS, "a": {**OPINIONS["a"], " u": gone()}},
    ).play(segments(exit=RECALL))
    assert played.text == " x u v"
    assert [committed.recalled for committed in played.rounds] == [(), (), ("b",)]
    assert played.asked_to_propose == [("a", "b"), ("a",), ("b",)]


def test_who_was_late_is_not_asked_again_in_the_round() -> None:
    three = replace(RECALL, min_models=2, recall_ratio=ExitRules().recall_ratio)
    first = {" x": 0.6, " y": 0.35, " z": 0.05}
    played = Script(
        {"a": " x", "b": " y", "c": " z"},
        {"a": done(" u"), "b": done(" v"), "c": done(" w")},
        opinions={
            "a": {**first, " u": 0.2, " v": 0.1, " w": 0.3},
            "b": {**first, " u": Late(), " v": Late()},
            "c": {" u": 0.1, " v": 0.1, " w": 0.9, **first},
        },
    ).play(segments("abc", exit=three))
    assert played.asked_to_score[2] == {"a": (" w",), "c": (" u", " v", " w")}
    assert played.rounds[1].winner == "c"


@pytest.mark.parametrize("order", ["abc", "bac"])
def test_who_is_asked_how_sure_it_is_does_not_depend_on_the_order(order: str) -> None:
    three = replace(RECALL, min_models=2, recall_ratio=ExitRules().recall_ratio)
    first = {" x": 0.6, " y": 0.35, " z": 0.05}
    played = Script(
        {"a": " x", "b": " y", "c": " z"},
        {m: done(" u") for m in "abc"},
        opinions={"a": {**first, " u": 0.9}, "b": {**first, " u": 0.1}, "c": first},
    ).play(segments(order, exit=three))
    assert played.asked_to_score[1] == {"a": (" u",)}
    assert played.rounds[1].recalled == ()


def test_those_who_return_with_nothing_new_still_judge() -> None:
    three = replace(RECALL, min_models=2, recall_ratio=ExitRules().recall_ratio)
    first = {" x": 0.6, " y": 0.35, " z": 0.05}
    played = Script(
        {"a": " x", "b": " y", "c": " z"},
        {"a": " u", "b": " v", "c": " u"},
        {m: done() for m in "abc"},
        opinions={
            "a": {**first, " u": 0.3, " v": 0.2},
            "b": {**first, " u": 0.2, " v": 0.3},
            "c": {**first, " u": 0.9, " v": 0.1},
        },
    ).play(segments("abc", exit=three))
    assert [departure.member for departure in played.rounds[0].left] == ["c"]
    assert played.asked_to_score[1:3] == [
        {"a": (" u", " v"), "b": (" u", " v")},
        {"c": (" u", " v")},
    ]
    assert played.rounds[1].candidates[0].proposers == ("a", "c")


def test_members_come_back_when_the_active_ones_are_lost() -> None:
    played = Script(FIRST, {"a": gone(), "b": done(" v")}, opinions=OPINIONS).play(
        segments(exit=LEAVE, quorum=1)
    )
    assert played.asked_to_propose == [("a", "b"), ("a",), ("b",)]
    assert played.rounds[1].recalled == ("b",)
    assert played.end == Finish(FinishReason.STOP, "")


def test_members_come_back_when_the_active_ones_are_lost_while_scoring() -> None:
    three = replace(LEAVE, min_models=2)
    first = {" x": 0.6, " y": 0.35, " z": 0.05}
    failing = {" u": gone(), " v": gone()}
    played = Script(
        {"a": " x", "b": " y", "c": " z"},
        {"a": done(" u"), "b": done(" v"), "c": done(" w")},
        opinions={
            "a": {**first, **failing},
            "b": {**first, **failing},
            "c": {**first, " u": 0.2, " v": 0.7, " w": 0.1},
        },
    ).play(segments("abc", exit=three))
    # What the lost members proposed is still there to be judged, and wins.
    assert played.asked_to_score[2] == {"c": (" u", " v", " w")}
    assert played.rounds[1].winner == "b"


def test_members_come_back_when_the_active_ones_have_nothing_to_say() -> None:
    played = Script(FIRST, {"a": "", "b": done(" v")}, opinions=OPINIONS).play(segments(exit=LEAVE))
    assert played.rounds[1].recalled == ("b",)
    assert played.rounds[1].winner == "b"


def test_members_that_stand_by_count_for_the_quorum() -> None:
    played = Script(FIRST, {"a": done(" u")}, opinions=OPINIONS).play(
        segments(exit=LEAVE, quorum=2)
    )
    assert played.end == Finish(FinishReason.STOP, "")
    assert [step.required for step in played.steps if isinstance(step, Propose)] == [2, 1]


def test_tokens_that_lost_are_counted_as_discarded(rules: MakeRules) -> None:
    played = Script(
        {"a": done(" x", tokens=2), "b": done(" y", tokens=3), "c": done(" x", tokens=4)},
        opinions={m: {" x": 0.9, " y": 0.1} for m in "abc"},
    ).play(rules("abc"))
    assert played.commits[0].discarded == {"b": 3}


def test_a_texts_own_encoding_may_have_more_tokens_than_were_drafted(rules: MakeRules) -> None:
    opinions = {member: {" x": 0.1, " y": 0.9} for member in "ab"}
    drafts = {"a": proposal(" x", tokens=11), "b": done(" y")}
    played = Script(drafts, opinions=opinions).play(rules())
    assert played.rounds[0].took_part == ("a", "b")
    assert not played.states[-1].lost
