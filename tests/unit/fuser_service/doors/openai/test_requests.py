"""What is read of a request, whatever its bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.doors.openai.errors import HttpProblem
from fuser_service.doors.openai.requests import (
    _HARMLESS,
    _HARMLESS_IN_MESSAGES,
    ChatRequest,
    CompletionRequest,
    Request,
    parsed,
)
from specfuse.errors import InvalidArgument

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields, *_HARMLESS, "unknown"})
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "secret"}]}


def chat(**fields: Any) -> ChatRequest:
    return parsed(ChatRequest, json.dumps({**ASK, **fields}).encode())


def refusal(kind: type[Request], body: bytes) -> InvalidArgument | None:
    try:
        parsed(kind, body)
    except InvalidArgument as error:
        return error
    return None


@given(body=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises((HttpProblem, InvalidArgument)):
        parsed(ChatRequest, body)


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_any_fields_are_read_or_refused_by_name(
    kind: type[Request], fields: dict[str, Any]
) -> None:
    document = {**ASK, "prompt": "secret", **fields}
    error = refusal(kind, json.dumps(document).encode())
    if error is not None:
        assert error.field.split(".")[0].split("[")[0] in document
        assert error.metadata["kind"]
        assert "secret" not in error.message
        assert error.message.isprintable()
        assert len(error.message) < 1000


@given(
    values=st.fixed_dictionaries(
        {}, optional={name: st.sampled_from([None, *ok]) for name, ok in _HARMLESS.items()}
    )
)
def test_what_asks_for_nothing_is_no_trouble(values: dict[str, Any]) -> None:
    request = chat(**values)
    assert not [*request.passed_over()]


@pytest.mark.parametrize("field", _HARMLESS)
@pytest.mark.parametrize("value", [True, 7, "seven", [7], {"seven": 7}])
def test_what_cannot_be_had_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match="not supported") as caught:
        chat(**{field: value})
    assert caught.value.field == field


def test_of_several_that_cannot_be_had_the_same_is_named_every_time() -> None:
    fields = dict.fromkeys(sorted(_HARMLESS, reverse=True), "wanted")
    with pytest.raises(InvalidArgument) as refused:
        parsed(ChatRequest, json.dumps({**ASK, **fields}).encode())
    assert refused.value.field == min(_HARMLESS)


def test_true_is_not_taken_for_one() -> None:
    for field in ("n", "best_of"):
        with pytest.raises(InvalidArgument):
            chat(**{field: True})


@pytest.mark.parametrize("field", _HARMLESS_IN_MESSAGES)
def test_what_a_message_cannot_have_is_refused_without_repeating_it(field: str) -> None:
    message = {"role": "user", "content": "x"}
    assert chat(messages=[{**message, field: None}])
    with pytest.raises(InvalidArgument) as caught:
        chat(messages=[message, {**message, field: "secret"}])
    assert caught.value.field == f"messages[1].{field}"
    assert "secret" not in caught.value.message


def test_unknown_fields_are_passed_over_and_named() -> None:
    messages = [{"role": "user", "content": "x", "weight": 1, "nothing": None}]
    request = chat(messages=messages, top_k=4, ignore_eos=True, nothing=None)
    assert [*request.passed_over()] == ["top_k", "ignore_eos", "messages[0].weight"]


def test_parts_are_read_and_an_assistant_may_have_said_nothing() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(
        messages=[{"role": "assistant", "content": None}, {"role": "user", "content": parts}]
    )
    assert isinstance(request.messages[1].content, list)
    assert [part.text for part in request.messages[1].content] == ["a", "b"]


@pytest.mark.parametrize(
    ("stop", "stops"), [(None, ()), ("x", ("x",)), ([], ()), (["x", "y"], ("x", "y"))]
)
def test_stops_are_a_string_or_a_list(stop: Any, stops: tuple[str, ...]) -> None:
    assert chat(stop=stop).stops == stops
