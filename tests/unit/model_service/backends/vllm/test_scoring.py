"""Prompts in portions, and the log-probabilities of their ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.backends.vllm.scoring import best_logprobs, branch_logprobs, portions
from specfuse.errors import ModelFailure

PROMPT = (1, 400, 300, 2)
ENTRIES = [
    None,
    {"400": {"logprob": -8.5, "rank": 613, "decoded_token": ""}},
    {"7": {"logprob": -0.5, "rank": 1}, "300": {"logprob": -7.75, "rank": 462}},
    {"2": {"logprob": -5.25, "rank": 37, "decoded_token": "</s>"}},
]

tokens = st.lists(st.integers(0, 9), min_size=1, max_size=30).map(tuple)


@given(st.lists(tokens), st.integers(1, 60))
def test_portions_are_the_prompts_in_order_and_no_larger_than_they_may_be(
    prompts: list[tuple[int, ...]], most: int
) -> None:
    found = list(portions(prompts, most))
    assert [prompt for portion in found for prompt in portion] == prompts
    assert all(len(portion) == 1 or sum(map(len, portion)) <= most for portion in found)


@given(st.lists(tokens, min_size=1))
def test_what_fits_is_one_portion(prompts: list[tuple[int, ...]]) -> None:
    assert list(portions(prompts, sum(map(len, prompts)))) == [prompts]


@pytest.mark.parametrize(("start", "logprobs"), [(1, (-8.5, -7.75, -5.25)), (3, (-5.25,))])
def test_numbers_are_found_by_the_tokens_ids(start: int, logprobs: tuple[float, ...]) -> None:
    assert branch_logprobs({"prompt_logprobs": ENTRIES}, PROMPT, start) == logprobs


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (None, "nothing for prompt_logprobs"),
        (ENTRIES[:3], "3 for the length of prompt_logprobs"),
        ([*ENTRIES, ENTRIES[3]], "5 for the length of prompt_logprobs"),
        ([*ENTRIES[:3], None], r"nothing for prompt_logprobs\[3\]"),
        ([*ENTRIES[:3], {"3": {"logprob": -1.0}}], r"nothing for prompt_logprobs\[3\]\.2"),
        ([*ENTRIES[:3], {"2": {"logprob": math.nan}}], r"nan for prompt_logprobs\[3\]\.2\.logprob"),
        ([*ENTRIES[:3], {"2": {"logprob": "-1"}}], "which must be a log-probability"),
        ([*ENTRIES[:3], {"2": -1.0}], "which must be an object"),
    ],
)
def test_anything_else_is_an_error_that_says_where(told: object, problem: str) -> None:
    with pytest.raises(ModelFailure, match=problem):
        branch_logprobs({"prompt_logprobs": told}, PROMPT, 1)


def test_the_most_probable_is_the_prompts_own_token_or_the_other_one_told() -> None:
    assert best_logprobs({"prompt_logprobs": ENTRIES}, PROMPT, 1) == (-8.5, -0.5, -5.25)
    told = [*ENTRIES[:3], {"2": {"logprob": -5.25}, "3": {"logprob": math.nan}}]
    with pytest.raises(ModelFailure, match="nan for prompt_logprobs"):
        best_logprobs({"prompt_logprobs": told}, PROMPT, 1)
