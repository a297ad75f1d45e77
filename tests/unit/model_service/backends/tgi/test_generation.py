"""What the server is asked to generate, and what it says it has."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.backends.tgi.generation import drawing, generated, raw_logprobs
from model_service.core.types import Sampling
from specfuse.errors import ModelFailure


def test_greedy_drawing_says_nothing_else() -> None:
    assert drawing(Sampling(top_p=0.5, top_k=3, seed=9), 9) == {"do_sample": False}


def test_sampling_leaves_out_what_cuts_nothing_off() -> None:
    assert drawing(Sampling(temperature=1.0), 0) == {
        "do_sample": True,
        "temperature": 1.0,
        "seed": 1,
    }


def test_sampling_has_all_that_was_asked_for() -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=40)
    assert drawing(sampling, 7) == {
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "seed": 8,
    }


def test_numbers_that_single_precision_would_spoil_are_not_sent() -> None:
    """The server would read them as 1 and 0, and refuse them."""
    parameters = drawing(Sampling(temperature=1e-60, top_p=1 - 1e-9), 0)
    assert "top_p" not in parameters
    assert parameters["temperature"] == 1e-3


def details(*tokens: Any, finish: str = "length") -> dict[str, Any]:
    return {"finish_reason": finish, "generated_tokens": len(tokens), "tokens": list(tokens)}


def test_tokens_come_with_what_is_told_of_them() -> None:
    told = details({"id": 5, "logprob": -1}, {"id": 2, "logprob": None}, finish="eos_token")
    assert generated(told, ends=(2,)) == ((5, 2), [-1, None])


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (details(), "generated no tokens"),
        (details({"id": 5}) | {"generated_tokens": 2}, "not those that it tells of"),
        (details({"id": 5}) | {"generated_tokens": None}, "nothing for generated_tokens"),
        (details({"id": -1}), "-1 for details.tokens"),
        (details({"id": True}), "a count"),
        (details("a"), "a str for"),
        ({"tokens": None}, "nothing for details.tokens"),
        (details({"id": 7, "logprob": -1}, finish="eos_token"), "token 7, which is no end token"),
    ],
)
def test_what_makes_no_sense_is_a_failure(told: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFailure, match=problem):
        generated(told, ends=(2,))


@pytest.mark.parametrize("number", [None, float("nan"), "-1", True])
def test_greedy_tokens_need_numbers(number: object) -> None:
    with pytest.raises(ModelFailure, match=r"details.tokens\[1\].logprob"):
        raw_logprobs([-1.5, number])
