"""What the server tells of a text that it was sent."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.backends.tgi.prefill import check_agreement, prefilled
from model_service.backends.tgi.texts import Continued, Sent
from specfuse.errors import Misconfigured, ModelFailure

WHOLE = Continued(Sent("a b c", (1, 5, 6)), shared=2)


def told(*pairs: tuple[int, object]) -> dict[str, Any]:
    return {"prefill": [{"id": token, "text": "", "logprob": number} for token, number in pairs]}


def test_every_token_but_the_first_has_a_number() -> None:
    assert prefilled(told((1, None), (5, -1.5), (6, -2)), WHOLE) == (-1.5, -2.0)


def test_a_server_that_tells_nothing_lacks_a_flag() -> None:
    with pytest.raises(Misconfigured, match="--enable-prefill-logprobs"):
        prefilled({"prefill": []}, WHOLE)


@pytest.mark.parametrize(
    ("details", "problem"),
    [
        (told((1, None), (5, -1.0), (7, -1.0)), "other tokens"),
        (told((1, None), (5, -1.0)), "other tokens"),
        (told((1, None), (5, -1.0), (6, -1.0), (6, -1.0)), "other tokens"),
        (told((1, None), (5, None), (6, -1.0)), r"nothing for details.prefill\[1\]"),
        (told((1, None), (5, -1.0), (6, float("nan"))), r"nan for details.prefill\[2\]"),
        ({"prefill": "a"}, "a str for details.prefill"),
        ({}, "nothing for details.prefill"),
        ({"prefill": [3]}, r"3 for details.prefill\[0\]"),
    ],
)
def test_what_is_not_of_the_text_is_a_failure(details: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFailure, match=problem):
        prefilled(details, WHOLE)


def test_numbers_shifted_by_one_are_found_by_their_context() -> None:
    right = [-1.0, -9.0, -0.5, -7.0, -2.0]
    shifted = [-4.0, *right[:-1]]
    check_agreement([right, [number - 0.05 for number in right]], shared=5)
    with pytest.raises(Misconfigured, match="--max-batch-size 1"):
        check_agreement([right, right, shifted], shared=5)


def test_only_what_is_shared_must_agree() -> None:
    check_agreement([[-1.0, -2.0], [-1.0, -90.0]], shared=2)
    check_agreement([[-1.0], [-90.0]], shared=1)
    check_agreement([[-1.0]], shared=2)
