"""Errors in OpenAI's form: the table is total, and fields have the names of the request."""

from __future__ import annotations

import json

import pytest

from fuser_service.doors.openai.errors import (
    CODES,
    RETRY_AFTER,
    HttpProblem,
    Standing,
    of_http,
    of_service,
)
from specfuse.errors import (
    Code,
    ContextTooLong,
    InvalidArgument,
    NotFound,
    QuorumLost,
    RateLimited,
    SpecFuseError,
    Unauthenticated,
    Unavailable,
    all_errors,
)

BEGUN = Standing({"context": "messages"}, begun=True, resume=None)


def example(cls: type[SpecFuseError]) -> SpecFuseError:
    """An error of the class as its raisers build it."""
    if issubclass(cls, ContextTooLong):
        return cls(tokens=4097, window=4096)
    if issubclass(cls, InvalidArgument):
        return cls("max_tokens", "is 0")
    return cls("what happened")


def test_the_table_has_every_kind_of_error() -> None:
    assert CODES.keys() == {*Code}


@pytest.mark.parametrize("cls", [*all_errors()])
def test_every_error_is_openais_object(cls: type[SpecFuseError]) -> None:
    response = of_service(example(cls))
    error = json.loads(response.body)["error"]
    assert 400 <= response.status < 600
    assert error.keys() == {"message", "type", "param", "code"}
    assert all(isinstance(error[key], str) for key in ("message", "type", "code"))


@pytest.mark.parametrize(
    ("contracts", "ours"),
    [
        ("ensemble", "model"),
        ("conversation.messages[3].content", "messages[3].content"),
        ("conversation.messages", "messages"),
        ("conversation", "messages"),
        ("raw_prompt", "prompt"),
        ("sampling.temperature", "temperature"),
        ("sampling.top_k", "specfuse.top_k"),
        ("overrides.recall", "specfuse.recall"),
        ("committed_segments[1]", "specfuse.resume.committed_segments[1]"),
        ("session_id", "specfuse.session_id"),
        ("stop[0]", "stop[0]"),
        ("max_tokens", "max_tokens"),
        ("ensembles", "ensembles"),
    ],
)
def test_a_field_is_called_what_the_request_calls_it(contracts: str, ours: str) -> None:
    error = of_service(InvalidArgument(contracts, "is wrong")).error
    assert (error["param"], error["message"]) == (ours, f"{ours}: is wrong")


def test_a_request_may_have_its_own_names() -> None:
    standing = Standing({"max_tokens": "max_completion_tokens"}, begun=False, resume=None)
    error = of_service(InvalidArgument("max_tokens", "is 0"), standing).error
    assert error["param"] == "max_completion_tokens"


def test_a_model_that_does_not_exist_is_called_a_model() -> None:
    response = of_service(NotFound("ensemble: there is no 'x'", field="ensemble"))
    assert (response.status, response.error["param"]) == (404, "model")
    assert response.error["message"] == "model: there is no 'x'"


def test_what_only_the_models_find_wrong_is_another_thing() -> None:
    wrong = InvalidArgument("context", "has no template")
    assert (of_service(wrong).status, of_service(wrong, BEGUN).status) == (400, 422)
    assert of_service(wrong, BEGUN).error["param"] == "messages"


@pytest.mark.parametrize(("counted", "least"), [(True, "have 9"), (False, "have at least 9")])
def test_a_context_that_is_too_long_is_said_as_callers_expect(counted: bool, least: str) -> None:
    response = of_service(ContextTooLong(tokens=9, window=8, counted=counted), BEGUN)
    assert (response.status, response.error["code"]) == (400, "context_length_exceeded")
    assert response.error["message"].startswith("This model's maximum context length is 8 tokens")
    assert least in response.error["message"]


def test_when_to_ask_again_is_what_the_error_says_or_soon() -> None:
    assert of_service(RateLimited("no", **{RETRY_AFTER: "30"})).headers["retry-after"] == "30"
    assert of_service(QuorumLost("no")).headers["retry-after"] == "1"
    assert "retry-after" not in of_service(NotFound("no")).headers


def test_when_to_ask_again_is_in_the_body_too_as_events_have_no_headers() -> None:
    asleep = Unavailable("1 of 3 members are awake", **{RETRY_AFTER: "5"})
    response = of_service(asleep)
    assert (response.status, response.headers["retry-after"]) == (503, "5")
    assert response.error["specfuse"] == {"retry_after_seconds": 5}
    assert "x-should-retry" not in response.headers, "nothing was spent"


def test_who_is_not_known_is_told_how_to_say_it() -> None:
    assert of_service(Unauthenticated("who?")).headers == {"www-authenticate": "Bearer"}


def test_an_answer_that_had_begun_is_not_asked_for_again_by_itself() -> None:
    resume = {"committed_segments": ["a"], "committed_tokens": 1}
    response = of_service(QuorumLost("lost"), Standing({}, begun=True, resume=resume))
    assert response.headers["x-should-retry"] == "false"
    assert response.error["specfuse"] == {"resume": resume}
    assert "x-should-retry" not in of_service(QuorumLost("lost"), BEGUN).headers


@pytest.mark.parametrize("status", [400, 404, 405, 408, 413, 415, 503, 418])
def test_what_is_wrong_with_http_has_its_status(status: int) -> None:
    response = of_http(HttpProblem(status, "it is wrong", {"allow": "GET"}))
    assert (response.status, response.headers["allow"]) == (status, "GET")
    assert json.loads(response.body)["error"]["message"] == "it is wrong"
