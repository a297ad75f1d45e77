"""Lists of log-probabilities, found to be of the right tokens."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.backends.sglang.logprobs import (
    input_best,
    input_logprobs,
    output_best,
    output_logprobs,
)
from specfuse.errors import ModelFailure

IDS = (419, 300, 2)
INPUTS = [[None, 419, None], [-7.75, 300, None], [-5.25, 2, "</s>"]]
OUTPUTS = [[-0.5, 419, None], [-7.75, 300, None], [-5.25, 2, None]]


def test_inputs_have_one_number_less_than_tokens() -> None:
    assert input_logprobs({"input_token_logprobs": INPUTS}, IDS) == (-7.75, -5.25)


def test_the_last_token_of_the_vocabulary_has_no_name() -> None:
    told = [*INPUTS[:2], [-5.25, 0, None]]
    assert input_logprobs({"input_token_logprobs": told}, (419, 300, 842)) == (-7.75, -5.25)


@pytest.mark.parametrize(
    "told",
    [
        None,
        "none",
        [],
        INPUTS[1:],
        [*INPUTS, [-1.0, 3, None]],
        [*INPUTS[:2], [-5.25, 3, None]],
        [*INPUTS[:2], [None, 2, None]],
        [*INPUTS[:2], [-5.25]],
        [*INPUTS[:2], None],
        [*INPUTS[:2], ["-5.25", 2, None]],
    ],
)
def test_other_inputs_are_an_error(told: Any) -> None:
    with pytest.raises(ModelFailure):
        input_logprobs({"input_token_logprobs": told}, IDS)


def test_outputs_have_a_number_for_each_token() -> None:
    assert output_logprobs({"output_token_logprobs": OUTPUTS}, IDS) == (-0.5, -7.75, -5.25)


def test_outputs_may_have_none() -> None:
    assert output_logprobs({}, IDS) is None


@pytest.mark.parametrize("told", [[], OUTPUTS[:2], OUTPUTS[::-1], [*OUTPUTS[:2], [None, 2, None]]])
def test_other_outputs_are_an_error(told: Any) -> None:
    with pytest.raises(ModelFailure):
        output_logprobs({"output_token_logprobs": told}, IDS)


TOPS = [None, [[-0.25, 7, None]], [[-5.25, 2, None]]]


def test_the_most_probable_of_inputs_have_one_number_less_than_tokens() -> None:
    assert input_best({"input_top_logprobs": TOPS}, 2) == (-0.25, -5.25)
    assert output_best({"output_top_logprobs": TOPS[1:]}, 2) == (-0.25, -5.25)


@pytest.mark.parametrize(
    "told", [None, [], TOPS[:2], [*TOPS, [[-1.0, 3, None]]], [*TOPS[:2], None], [*TOPS[:2], []]]
)
def test_other_most_probable_ones_are_an_error(told: Any) -> None:
    with pytest.raises(ModelFailure):
        input_best({"input_top_logprobs": told}, 2)
