"""SGLang's log-probabilities: lists of `[logprob, id, text]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from model_service.backends.remote import answers
from model_service.backends.text.encoders import TokenIds
from specfuse.errors import ModelFailure

_LEAST: Final = 2
"""The logarithm and the id; of the text nothing is asked."""

_UNNAMED: Final = 0
"""What stands in place of an input's id if that is the last one of the vocabulary."""


def output_logprobs(meta: Mapping[str, Any], ids: TokenIds) -> tuple[float, ...] | None:
    """The log-probabilities of the generated tokens; None if there are none.

    Raises:
        ModelFailure: what is there are no such numbers, or not those of these tokens.
    """
    if meta.get("output_token_logprobs") is None:
        return None
    place = "meta_info.output_token_logprobs"
    told = _pairs(meta["output_token_logprobs"], place)
    if tuple(token for _, token in told) != ids:
        raise ModelFailure("the server tells the probabilities of other tokens than it generated")
    return tuple(answers.logprob(logprob, place) for logprob, _ in told)


def input_logprobs(meta: Mapping[str, Any], ids: TokenIds) -> tuple[float, ...]:
    """The log-probabilities of the last tokens of an input, but for the first of these.

    That one is told without a number: it says where they begin.

    Raises:
        ModelFailure: there are no such numbers, or they are of other tokens.
    """
    place = "meta_info.input_token_logprobs"
    told = _pairs(meta.get("input_token_logprobs"), place)
    if len(told) != len(ids):
        raise answers.wrong(f"the length of {place}", f"{len(ids)}", len(told))
    if any(found not in (token, _UNNAMED) for (_, found), token in zip(told, ids, strict=True)):
        raise ModelFailure("the server scored other tokens than those it was to judge")
    return tuple(answers.logprob(logprob, place) for logprob, _ in told[1:])


def output_best(meta: Mapping[str, Any], tokens: int) -> tuple[float, ...]:
    """The log-probability of the most probable token in the place of each that was generated.

    Raises:
        ModelFailure: there are no such numbers, or not as many.
    """
    place = "meta_info.output_top_logprobs"
    return _best(answers.sequence(meta.get("output_top_logprobs"), place), tokens, place)


def input_best(meta: Mapping[str, Any], tokens: int) -> tuple[float, ...]:
    """The log-probability of the most probable token in the place of each of an input's last.

    Raises:
        ModelFailure: there are no such numbers, or not as many.
    """
    place = "meta_info.input_top_logprobs"
    told = answers.sequence(meta.get("input_top_logprobs"), place)
    return _best(told[1:], tokens, place)  # of where they begin nothing is told


def _best(told: list[Any], tokens: int, place: str) -> tuple[float, ...]:
    if len(told) != tokens:
        raise answers.wrong(f"the length of {place}", f"{tokens}", len(told))
    tops = (_pairs(top, f"{place}[{at}]") for at, top in enumerate(told))
    return tuple(answers.logprob(top[0][0] if top else None, place) for top in tops)


def _pairs(entries: Any, place: str) -> list[tuple[Any, Any]]:  # noqa: ANN401
    found = [
        answers.sequence(entry, f"{place}[{at}]")
        for at, entry in enumerate(answers.sequence(entries, place))
    ]
    if any(len(entry) < _LEAST for entry in found):
        raise ModelFailure(f"the server's answer has too short an entry in {place}")
    return [(entry[0], entry[1]) for entry in found]
