"""What llama-server tells of tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest

from model_service.backends.llama_cpp.judge import alternatives, best, told
from specfuse.errors import Misconfigured, ModelFailure

LOWEST = -3.4028234663852886e38
"""What it says is the logarithm of 0."""


def answer(*logprobs: float, **fields: Any) -> dict[str, Any]:
    tokens = [
        {"id": 7, "logprob": one, "top_logprobs": [{"id": 7, "logprob": one}]} for one in logprobs
    ]
    return {"completion_probabilities": tokens} | fields


def test_the_tokens_and_their_numbers() -> None:
    assert told(answer(-1.0, -2.0)) == [(7, -1.0), (7, -2.0)]
    assert alternatives(answer(-1.0, -2.0)) == [(7, -1.0)]


def test_a_probability_of_zero_is_the_smallest_that_single_precision_has() -> None:
    ((_, logprob),) = told(answer(LOWEST))
    assert math.exp(logprob) == pytest.approx(2.0**-149)
    assert alternatives(answer(LOWEST)) == [(7, logprob)]


def test_a_token_that_was_guessed_is_told_nothing_of() -> None:
    guessed = answer(-1.0, 0.0)
    guessed["completion_probabilities"][1]["top_logprobs"] = []
    with pytest.raises(Misconfigured, match="speculatively"):
        told(guessed)


def test_a_server_that_says_it_guesses_is_refused_before_it_does() -> None:
    field = "generation_settings/speculative.types"
    with pytest.raises(Misconfigured, match="--spec-type"):
        told(answer(-1.0, **{field: "none,ngram-simple"}))
    assert told(answer(-1.0, **{field: "none"}))


@pytest.mark.parametrize("wrong", [None, {}, [7], [{"top_logprobs": [1]}]])
def test_what_is_no_such_list_is_an_error(wrong: Any) -> None:
    with pytest.raises(ModelFailure):
        told({"completion_probabilities": wrong})


def test_the_most_probable_in_each_place() -> None:
    likelier = answer(-1.0, -2.0)
    likelier["completion_probabilities"][1]["top_logprobs"] = [{"id": 9, "logprob": -0.5}]
    assert best(likelier) == [-1.0, -0.5]
