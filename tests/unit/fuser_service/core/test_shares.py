"""Statistics, shares and their fusion: by hand, and for any numbers."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.attendance import problem_with
from fuser_service.core.candidates import DistinctCandidate, distinct_candidates
from fuser_service.core.rules import SelfJudgement, Statistic
from fuser_service.core.shares import fused, log_statistic, normalised, pooled
from fuser_service.core.types import Candidate, Disagreement, Evidence, Score
from fuser_service.core.weights import Weights
from tests.support.members import END, STOP, proposal

EVEN = (0.0, 0.0)
INCLUDE, DROP = SelfJudgement.INCLUDE, SelfJudgement.DROP


def distinct(*proposers: str) -> tuple[DistinctCandidate, ...]:
    """A candidate per argument; the argument's letters are its proposers."""
    return tuple(
        DistinctCandidate(Candidate(f"c{index}", finished=False), tuple(names))
        for index, names in enumerate(proposers)
    )


# Statistics


def test_statistics_by_hand() -> None:
    # Two tokens of probability 1/2 and 1/8 in a text of 4 bytes.
    score = Score(math.log(1 / 16), (1 / 2 + 1 / 8) / 2, token_count=2, byte_count=4)
    assert math.exp(log_statistic(score, Statistic.GEOMETRIC)) == pytest.approx(1 / 4)
    assert math.exp(log_statistic(score, Statistic.MEAN_PROBABILITY)) == pytest.approx(5 / 16)
    assert math.exp(log_statistic(score, Statistic.PER_BYTE)) == pytest.approx(1 / 2)


def test_the_end_token_of_an_empty_candidate_counts_as_a_byte() -> None:
    score = Score(math.log(0.25), 0.25, token_count=1, byte_count=0)
    assert math.exp(log_statistic(score, Statistic.PER_BYTE)) == pytest.approx(0.25)


@pytest.mark.parametrize("statistic", Statistic)
def test_impossible_is_minus_infinity_and_no_error(statistic: Statistic) -> None:
    score = Score(-math.inf, 0.0, token_count=3, byte_count=9)
    assert problem_with(score, "text") is None
    assert log_statistic(score, statistic) == -math.inf


@pytest.mark.parametrize(
    ("score", "named"),
    [
        (Score(math.nan, 0.5, 1, 1), "logprob_sum is nan"),
        (Score(math.inf, 0.5, 1, 1), "logprob_sum is inf"),
        (Score(0.1, 0.5, 1, 1), "logprob_sum is 0.1"),
        (Score(-1.0, math.nan, 1, 1), "probability_mean is nan"),
        (Score(-1.0, -0.1, 1, 1), "probability_mean is -0.1"),
        (Score(-1.0, 1.1, 1, 1), "probability_mean is 1.1"),
        (Score(-1.0, 0.5, 0, 1), "token_count is 0"),
        (Score(-1.0, 0.5, 1, -1), "byte_count is -1"),
    ],
)
def test_numbers_that_are_no_probabilities_are_named(score: Score, named: str) -> None:
    assert named in (problem_with(score, "text") or "")


EVIDENCE = Evidence(2.0, 1.5, 1, 0.7, -3.0, 3)
TEXT = "né "


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"regret_sum": math.nan}, "regret_sum is nan"),
        ({"regret_sum": 1.0}, "regret_sum is 1.0, must be at least 1.5"),
        ({"regret_max": math.nan}, "regret_max is nan"),
        ({"regret_max": -0.1}, "regret_max is -0.1"),
        ({"entropy": math.nan}, "entropy is nan"),
        ({"entropy": -0.1}, "entropy is -0.1"),
        ({"weakest_logprob": math.nan}, "weakest_logprob is nan"),
        ({"weakest_logprob": 0.1}, "weakest_logprob is 0.1"),
        ({"regret_offset": 5}, "regret_offset is 5, must be at most 4"),
        ({"regret_offset": -1}, "regret_offset is -1"),
        ({"regret_offset": 2}, "regret_offset is 2, within a character"),
        ({"weakest_offset": 5}, "weakest_offset is 5, must be at most 4"),
        ({"weakest_offset": 2}, "weakest_offset is 2, within a character"),
        ({"untold": -0.1}, "untold is -0.1, must be at least 0"),
        ({"untold": math.nan}, "untold is nan"),
        ({"further": (Disagreement(0, -0.1),)}, "further[0].regret is -0.1"),
        ({"further": (Disagreement(0, 1.6),)}, "further[0].regret is 1.6, must be at least 0 and"),
        ({"further": (Disagreement(0, 1.0, 0.1),)}, "further[0].best_logprob is 0.1"),
        ({"further": (Disagreement(0, 1.0), Disagreement(5, 1.0))}, "further[1].offset is 5"),
        ({"further": (Disagreement(2, 1.0),)}, "further[0].offset is 2, within a character"),
        ({"further": (Disagreement(0, 1.0),) * 17}, "further has 17 places, must have at most 16"),
    ],
)
def test_evidence_that_cannot_be_is_named(wrong: dict[str, object], named: str) -> None:
    evidence = EVIDENCE._replace(**wrong)  # type: ignore[arg-type]
    assert named in (problem_with(Score(-1.0, 0.5, 2, 4, evidence), TEXT) or "")


@pytest.mark.parametrize("offset", [0, 1, 3, 4])
def test_evidence_may_name_any_character_and_the_end(offset: int) -> None:
    evidence = EVIDENCE._replace(regret_offset=offset, weakest_offset=offset, entropy=None)
    assert problem_with(Score(-1.0, 0.5, 2, 4, evidence), TEXT) is None


def test_a_probability_rounded_above_one_is_still_one() -> None:
    assert problem_with(Score(1e-4, 1.0001, 1, 1), "t") is None


# One verifier's shares

logs = st.one_of(st.floats(-1e6, 0.0), st.just(-math.inf))


def test_shares_by_hand() -> None:
    # 0.6, 0.3, 0.1 sum to 1 already; 0.2, 0.1, 0.1 to 0.4.
    assert normalised([math.log(p) for p in (0.6, 0.3, 0.1)]) == pytest.approx((0.6, 0.3, 0.1))
    assert normalised([math.log(p) for p in (0.2, 0.1, 0.1)]) == pytest.approx((0.5, 0.25, 0.25))


def test_shares_are_uniform_if_everything_is_impossible() -> None:
    assert normalised([-math.inf] * 4) == (0.25,) * 4


def test_shares_do_not_underflow() -> None:
    # exp(-5000) is 0 as a float; the first is still e times as likely as the second.
    assert normalised([-5000.0, -5001.0]) == pytest.approx(
        (math.e / (math.e + 1), 1 / (math.e + 1))
    )


@given(st.lists(logs, min_size=1, max_size=8))
def test_shares_are_a_distribution_that_keeps_the_order(values: list[float]) -> None:
    shares = normalised(values)
    assert math.fsum(shares) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 for share in shares)
    for a, b in permutations(range(len(values)), 2):
        assert values[a] <= values[b] or shares[a] >= shares[b]


@given(
    st.lists(st.tuples(st.floats(-50, -1), st.integers(1, 20)), min_size=1, max_size=6),
    st.floats(-1, 1),
)
def test_a_constant_on_every_token_changes_no_geometric_share(
    tokens: list[tuple[float, int]], constant: float
) -> None:
    def shares(shift: float) -> tuple[float, ...]:
        scores = [Score((mean + shift) * count, 0.5, count, 1) for mean, count in tokens]
        return normalised([log_statistic(score, Statistic.GEOMETRIC) for score in scores])

    assert shares(constant) == pytest.approx(shares(0.0))


# Fused shares


def test_fused_shares_by_hand() -> None:
    # Equal weights: ((0.7 + 0.4) / 2, (0.3 + 0.6) / 2).
    judgements = {"a": (0.7, 0.3), "b": (0.4, 0.6)}
    uniform = Weights.uniform("ab")
    assert fused(distinct("a", "b"), judgements, uniform, INCLUDE) == pytest.approx((0.55, 0.45))
    # Weights 3/4 and 1/4: (0.525 + 0.1, 0.225 + 0.15).
    weights = Weights({"a": math.log(3), "b": 0.0})
    assert fused(distinct("a", "b"), judgements, weights, INCLUDE) == pytest.approx((0.625, 0.375))


def test_dropping_self_judgement_by_hand() -> None:
    judgements = {"a": (0.8, 0.1, 0.1), "b": (0.2, 0.5, 0.3), "c": (0.3, 0.3, 0.4)}
    # (0.2 + 0.3) / 2, (0.1 + 0.3) / 2, (0.1 + 0.3) / 2 = 0.25, 0.2, 0.2, which sum to 0.65.
    assert fused(distinct("a", "b", "c"), judgements, Weights.uniform("abc"), DROP) == (
        pytest.approx((0.25 / 0.65, 0.2 / 0.65, 0.2 / 0.65))
    )


def test_a_candidate_nobody_else_judged_keeps_its_own_judgement() -> None:
    # c proposed the second, but did not score: only a and b did, who proposed the first.
    judgements = {"a": (0.9, 0.1), "b": (0.7, 0.3)}
    # First: own judges only, (0.9 + 0.7) / 2. Second: (0.1 + 0.3) / 2.
    assert fused(distinct("ab", "c"), judgements, Weights.uniform("abc"), DROP) == (
        pytest.approx((0.8, 0.2))
    )


def test_dropping_where_each_model_believes_only_in_itself() -> None:
    judgements = {"a": (1.0, 0.0), "b": (0.0, 1.0)}
    assert fused(distinct("a", "b"), judgements, Weights.uniform("ab"), DROP) == (0.5, 0.5)


def test_a_single_model_judges_itself_either_way() -> None:
    for mode in SelfJudgement:
        assert fused(distinct("a", "b"), {"a": (0.6, 0.4)}, Weights.uniform("ab"), mode) == (
            pytest.approx((0.6, 0.4))
        )


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_of_two_models_dropping_elects_whom_including_elects(a: float, b: float) -> None:
    # Include: (a + b) / 2 against 1 minus that. Drop: b against 1 - a. Both ask whether a + b > 1.
    if abs(a + b - 1) < 1e-6:
        return
    judgements = {"a": (a, 1 - a), "b": (b, 1 - b)}
    first = [
        fused(distinct("a", "b"), judgements, Weights.uniform("ab"), mode)[0] > 0.5
        for mode in SelfJudgement
    ]
    assert first[0] == first[1]


@st.composite
def panels(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    """Candidates, some with several proposers, and the shares of those members that scored."""
    members = "abcde"[: draw(st.integers(1, 5))]
    texts = [draw(st.integers(0, len(members) - 1)) for _ in members]
    candidates = distinct_candidates(
        {m: proposal(f"t{text}") for m, text in zip(members, texts, strict=True)}
    )
    judges = draw(st.lists(st.sampled_from(members), min_size=1, unique=True))
    size = len(candidates)
    judgements = {j: normalised(draw(st.lists(logs, min_size=size, max_size=size))) for j in judges}
    weights = Weights({m: draw(st.floats(-1e3, 1e3)) for m in members})
    return candidates, judgements, weights, draw(st.sampled_from(SelfJudgement))


@given(panels())
def test_fused_shares_are_a_distribution(panel) -> None:  # type: ignore[no-untyped-def]
    candidates, judgements, weights, mode = panel
    shares = fused(candidates, judgements, weights, mode)
    assert math.fsum(shares) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 for share in shares)


@given(panels(), st.randoms())
def test_the_order_of_verifiers_changes_no_bit(panel, random) -> None:  # type: ignore[no-untyped-def]
    candidates, judgements, weights, mode = panel
    shuffled = list(judgements)
    random.shuffle(shuffled)
    again = {judge: judgements[judge] for judge in shuffled}
    assert fused(candidates, again, weights, mode) == fused(candidates, judgements, weights, mode)


# Candidates


def test_candidates_are_distinct_by_text_and_finished() -> None:
    proposals = {
        "a": proposal(" yes"),
        "b": proposal(" yes", END),
        "c": proposal(" yes", STOP),
        "d": proposal(""),
        "e": proposal("", END),
        "f": proposal(" yes", END),
    }
    assert distinct_candidates(proposals) == (
        # A stop string draws no end token: what is judged is the same text as a's.
        DistinctCandidate(Candidate(" yes", finished=False), ("a", "c")),
        DistinctCandidate(Candidate(" yes", finished=True), ("b", "f")),
        # Empty and unfinished is nothing; empty and finished means "stop here".
        DistinctCandidate(Candidate("", finished=True), ("e",)),
    )


@pytest.mark.parametrize("sharpness", [0.0, 4.0])
def test_pooled_who_gives_every_candidate_nothing_says_nothing(sharpness: float) -> None:
    lost = (-math.inf, -math.inf)
    sure = (math.log(0.75), math.log(0.25))
    weights = Weights.uniform("ab")
    assert pooled({"a": lost, "b": sure}, weights, sharpness, EVEN) == pytest.approx((0.75, 0.25))
    assert pooled({"a": lost, "b": lost}, weights, sharpness, EVEN) == (0.5, 0.5)


def test_pooled_takes_weights_too_small_for_a_float() -> None:
    weights = Weights({"a": 0.0, "b": -2000.0})
    given = {"a": (-1.0, -2.0), "b": (-9.0, -0.1)}
    alone = pooled({"a": given["a"]}, weights, 0.0, EVEN)
    assert pooled(given, weights, 0.0, EVEN) == pytest.approx(alone)


def test_pooled_counts_what_a_candidate_leads_to() -> None:
    given = {"a": (math.log(0.6), math.log(0.4))}
    leads = (math.log(0.5), 0.0)
    assert pooled(given, Weights.uniform("a"), 4.0, leads) == pytest.approx((3 / 7, 4 / 7))
