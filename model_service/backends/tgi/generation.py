"""What the server is asked to generate, and what it says it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from model_service.backends.remote import answers
from model_service.backends.text.encoders import TokenIds
from model_service.core.types import Sampling
from specfuse.errors import ModelFailure

_COLDEST: Final = 1e-3
"""A lower temperature differs from it only by numbers that overflow."""

_WHOLE: Final = 1 - 2**-25
"""From here on a share is 1 in the server's single precision, which it refuses."""


def drawing(sampling: Sampling, seed: int) -> dict[str, object]:
    """The parameters by which tokens are drawn; what cuts nothing off must be left out."""
    if sampling.greedy:
        return {"do_sample": False}
    parameters: dict[str, object] = {
        "do_sample": True,
        "temperature": max(sampling.temperature, _COLDEST),
        "seed": seed + 1,  # it takes none for 0
    }
    if sampling.top_p < _WHOLE:
        parameters["top_p"] = sampling.top_p
    if sampling.top_k:
        parameters["top_k"] = sampling.top_k
    return parameters


def generated(details: Mapping[str, Any], ends: TokenIds) -> tuple[TokenIds, list[Any]]:
    """The tokens that were generated, and what is told of the probability of each.

    Raises:
        ModelFailure: there are none, or not as many as it says, or the last one is an end token
            that is none here.
    """
    place = "details.tokens"
    tokens = [
        answers.mapping(token, f"{place}[{at}]")
        for at, token in enumerate(answers.sequence(details.get("tokens"), place))
    ]
    ids = answers.ids([token.get("id") for token in tokens], f"{place}.id")
    if not ids or len(ids) != answers.count(details.get("generated_tokens"), "generated_tokens"):
        raise ModelFailure("the server generated no tokens, or not those that it tells of")
    if details.get("finish_reason") == "eos_token" and ids[-1] not in ends:
        raise ModelFailure(
            f"the server ends with token {ids[-1]}, which is no end token of the tokenizer given; "
            "give the model's whole directory, with generation_config.json"
        )
    return ids, [token.get("logprob") for token in tokens]


def raw_logprobs(told: list[Any]) -> tuple[float, ...]:
    """Log-probabilities of greedily generated tokens, which nothing has tempered.

    Raises:
        ModelFailure: one of them is none.
    """
    return tuple(
        answers.logprob(one, f"details.tokens[{at}].logprob") for at, one in enumerate(told)
    )
