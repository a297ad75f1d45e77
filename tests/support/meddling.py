"""What can be wrong with a server's answers, whatever kind of server it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.support.http_between import Answer, Meddle


def refusing(status: int, body: object = "no", **headers: str) -> Meddle:
    """Answers with an error's status. `_` in a header's name stands for `-`."""

    def meddle(answer: Answer) -> None:
        answer.status = status
        answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        answer.say(body)

    return meddle


def _bytes(body: bytes, answer: Answer) -> None:
    answer.body = body


def _each(change: Callable[[Any], Any], answer: Answer) -> None:
    answer.say(_changed(answer.json(), change))


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with every part of it changed, from the inside out."""
    if isinstance(value, dict):
        value = {key: _changed(inner, change) for key, inner in value.items()}
    elif isinstance(value, list):
        value = [_changed(inner, change) for inner in value]
    return change(value)


def _numbers(replacement: Any, value: Any) -> Any:
    return replacement if isinstance(value, float) else value


def _shorter(value: Any) -> Any:
    return value[:-1] if isinstance(value, list) else value


def _longer(value: Any) -> Any:
    return [*value, value[-1]] if isinstance(value, list) and value else value


def _other_ids(value: Any) -> Any:
    return value + 1 if isinstance(value, int) and not isinstance(value, bool) else value


def _emptied(value: Any) -> Any:
    return type(value)() if isinstance(value, list | str) else value


def _texts(value: Any) -> Any:
    return str(value) if isinstance(value, float | int) else value


MEDDLED: dict[str, Meddle] = {
    "no JSON": partial(_bytes, b"<html>It works!</html>"),
    "no object": partial(_bytes, b'"yes"'),
    "nothing": partial(_bytes, b""),
    "an empty object": partial(_bytes, b"{}"),
    "half of it": lambda answer: _bytes(answer.body[: len(answer.body) // 2], answer),
    "no UTF-8": partial(_bytes, b'{"a": "\xff"}'),
    "too deep": partial(_bytes, b"[" * 100_000),
    "null for numbers": partial(_each, partial(_numbers, None)),
    "NaN for numbers": partial(_each, partial(_numbers, float("nan"))),
    "infinity for numbers": partial(_each, partial(_numbers, float("inf"))),
    "probabilities above one": partial(_each, partial(_numbers, 0.5)),
    "words for numbers": partial(_each, _texts),
    "fewer of all": partial(_each, _shorter),
    "more of all": partial(_each, _longer),
    "nothing in lists": partial(_each, _emptied),
    "other tokens": partial(_each, _other_ids),
}
"""By what is wrong, what changes an answer so."""
