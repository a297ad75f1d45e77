"""The OpenAI-compatible door, asked by OpenAI's own SDK: answers, errors, interruptions."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.directory import Directory
from fuser_service.tenancy.key_file import KeyEntry, change
from fuser_service.tenancy.keys import Key, digest_of, id_of, new_key
from model_service.backends.scripted.settings import Line
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Overloaded,
    QuorumLost,
    SpecFuseError,
    Unavailable,
)
from tests.support.fuser_mesh import PATIENCE_SECONDS, FuserMesh, Nodes, open_fuser
from tests.support.http_caller import answer_to, calling
from tests.support.openai_door import (
    HELLO,
    STARTED,
    committed,
    finished,
    open_openai_mesh,
    open_played,
    sdk_of,
)

PARIS = "The capital of France is Paris and that of Spain is Madrid."
LYON = "The capital of France is Lyon and that of Spain is Madrid."
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "all", "messages": HELLO}
GO_ON: dict[str, Any] = {"model": "all", "prompt": "Which?"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[FuserMesh, AsyncOpenAI]]:
    """A mesh that many ask, some of them nonsense: it must not mind. It votes on segments."""
    settings = {"segment_tokens": 3, "max_tokens_limit": 100, "max_tokens": 50, "vote": "segments"}
    async with open_openai_mesh({"a": PARIS, "b": LYON, "c": PARIS}, **settings) as (mesh, _, sdk):
        await mesh.becomes_ready("a", "b", "c")
        yield mesh, sdk


@pytest.fixture
def sdk(shared: tuple[FuserMesh, AsyncOpenAI]) -> AsyncOpenAI:
    return shared[1]


async def chunks_of(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def broken(stream: Any) -> tuple[str, Any]:
    """The text of a stream that fails, and its error."""
    text = ""
    try:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        return text, error
    raise AssertionError("the stream came to its end")


def facts_of(one: Any) -> dict[str, Any]:
    return one.model_extra["specfuse"]


@pytest.mark.asyncio(loop_scope="module")
class TestAnswers:
    async def test_a_whole_answer_has_its_text_usage_and_facts(self, sdk: AsyncOpenAI) -> None:
        answer = await sdk.chat.completions.create(**ASK)

        assert answer.choices[0].message.content == PARIS
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == len(PARIS.split())
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
        facts = facts_of(answer)
        assert facts["members"] == ["a", "b", "c"]
        assert "".join(one["segment"] for one in facts["rounds"]) == PARIS
        assert facts["rounds"][0]["winner"] == "a"
        assert facts["rounds"][0]["milliseconds"]["total"] > 0
        assert facts["calls"]["propose"]["made"] > 0
        assert (facts["degraded"], facts["lost"], facts["absent"]) == (False, [], [])

    async def test_a_stream_says_the_same_in_chunks(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.chat.completions.create(**ASK, stream=True)
        *texts, last = await chunks_of(stream)

        assert [chunk.choices[0].delta.content for chunk in texts][:2] == [
            "The capital of",
            " France is Paris",
        ]
        assert "".join(chunk.choices[0].delta.content for chunk in texts) == PARIS
        assert [chunk.choices[0].delta.role for chunk in texts] == ["assistant", None, None, None]
        assert last.choices[0].finish_reason == "stop"
        assert last.choices[0].delta.content is None
        assert len({chunk.id for chunk in (*texts, last)}) == 1
        assert all(chunk.usage is None for chunk in (*texts, last))
        shares = facts_of(texts[1])["shares"]
        assert shares["a"] == shares["c"] > shares["b"]
        assert facts_of(last)["calls"]["score"]["made"] > 0

    async def test_usage_is_the_last_of_a_stream_if_it_is_asked_for(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}
        )
        *others, last = await chunks_of(stream)
        assert (last.choices, last.usage.completion_tokens) == ([], 12)
        assert all(chunk.usage is None for chunk in others)

    async def test_a_raw_prompt_is_gone_on_with(self, sdk: AsyncOpenAI) -> None:
        answer = await sdk.completions.create(**GO_ON)
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == (PARIS, "stop")
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 1  # a scripted model's tokens are words
        listed = await sdk.completions.create(model="all", prompt=["Which?"])
        assert listed.choices[0].text == PARIS
        chunks = await chunks_of(await sdk.completions.create(**GO_ON, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == PARIS
        assert chunks[-1].choices[0].finish_reason == "stop"

    async def test_the_blocking_sdk_reads_it_too(
        self, shared: tuple[FuserMesh, AsyncOpenAI]
    ) -> None:
        def ask() -> tuple[str | None, str]:
            base = f"http://{shared[0].fuser.http_address}/v1"
            with OpenAI(base_url=base, api_key="k", max_retries=0) as client:
                answer = client.chat.completions.create(**ASK)
                stream = client.chat.completions.create(**ASK, stream=True)
                text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return answer.choices[0].message.content, text

        assert await asyncio.to_thread(ask) == (PARIS, PARIS)

    async def test_both_limits_of_tokens_end_it_with_length(self, sdk: AsyncOpenAI) -> None:
        answer = await sdk.chat.completions.create(**ASK, max_tokens=4)
        assert answer.choices[0].message.content == "The capital of France"
        assert answer.choices[0].finish_reason == "length"
        both = await sdk.chat.completions.create(**ASK, max_tokens=9, max_completion_tokens=2)
        assert both.choices[0].message.content == "The capital"

    @pytest.mark.parametrize("stop", [" is Paris", [" is Paris", "never"]])
    async def test_a_stop_string_ends_it_and_is_no_part_of_it(
        self, sdk: AsyncOpenAI, stop: Any
    ) -> None:
        answer = await sdk.chat.completions.create(**ASK, stop=stop)
        assert answer.choices[0].message.content == "The capital of France"

    @pytest.mark.parametrize(
        "stop", [None, [], "Madrid. And"], ids=["null", "none", "what could still come"]
    )
    async def test_what_is_held_back_comes_at_the_end(self, sdk: AsyncOpenAI, stop: Any) -> None:
        stream = await sdk.chat.completions.create(**ASK, stop=stop, stream=True)
        chunks = await chunks_of(stream)
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == PARIS

    async def test_trace_tells_the_candidates(self, sdk: AsyncOpenAI) -> None:
        ours = {"specfuse": {"trace": True, "exit_policy": "none", "segment_tokens": 8}}
        answer = await sdk.chat.completions.create(**ASK, extra_body=ours)
        best, other = facts_of(answer)["rounds"][0]["candidates"]
        assert best["text"] == "The capital of France is Paris and that"
        assert best["proposers"] == ["a", "c"]
        assert best["share"] + other["share"] == pytest.approx(1.0)
        assert best["judgements"].keys() == {"a", "b", "c"}

    async def test_what_has_no_effect_is_accepted(self, sdk: AsyncOpenAI) -> None:
        answer = await sdk.chat.completions.with_raw_response.create(
            **ASK,
            user="u",
            metadata={"a": "b"},
            store=True,
            service_tier="auto",
            n=1,
            tools=[],
            logprobs=False,
            presence_penalty=0,
            response_format={"type": "text"},
            parallel_tool_calls=True,
            extra_body={"ignore_eos": True, "min_tokens": 3, "nothing": None},
        )
        assert answer.parse().choices[0].message.content == PARIS
        assert answer.headers["x-specfuse-ignored-fields"] == "ignore_eos, min_tokens"

    @pytest.mark.parametrize("name", [" ", " x ", "x ", "a,b", "a b", "x" * 63 + " y"])
    async def test_whatever_a_field_is_called_there_is_an_answer(
        self, name: str, sdk: AsyncOpenAI
    ) -> None:
        answer = await sdk.chat.completions.with_raw_response.create(**ASK, extra_body={name: 1})
        assert answer.parse().choices[0].message.content == PARIS
        shown = name.replace(" ", "?").replace(",", "?")[:64]
        assert answer.headers["x-specfuse-ignored-fields"] == shown

    async def test_an_interrupted_answer_is_gone_on_with(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.chat.completions.create(**ASK, stream=True)
        first, second, *_ = [facts_of(chunk) for chunk in (await chunks_of(stream))[:-1]]
        resume = {
            "committed_segments": [first["segment"], second["segment"]],
            "committed_tokens": first["tokens"] + second["tokens"],
        }
        rest = await sdk.chat.completions.create(**ASK, extra_body={"specfuse": {"resume": resume}})
        assert rest.choices[0].message.content == PARIS.removeprefix(
            "The capital of France is Paris"
        )
        assert rest.usage is not None
        assert rest.usage.prompt_tokens == 1 + 6
        assert rest.usage.completion_tokens == 12 - 6

    async def test_ensembles_are_models(self, shared: tuple[FuserMesh, AsyncOpenAI]) -> None:
        _, sdk = shared
        (model,) = (await sdk.models.list()).data
        assert (model.id, model.object, model.owned_by) == ("all", "model", "specfuse")
        assert facts_of(model)["members"] == ["a", "b", "c"]
        assert facts_of(model)["ready"]
        assert await sdk.models.retrieve("all") == model
        with pytest.raises(openai.NotFoundError, match="there is no such model; there are: all"):
            await sdk.models.retrieve("none/such")
        counted = await shared[0].metric(
            "specfuse_http_responses_total", route="/v1/models/{model}", status="404"
        )
        assert counted

    async def test_requests_are_counted_as_those_of_grpc_and_by_path(
        self, shared: tuple[FuserMesh, AsyncOpenAI]
    ) -> None:
        mesh, sdk = shared
        route, counted = "/v1/chat/completions", "specfuse_http_responses_total"

        async def counts() -> list[float]:
            ended = "specfuse_request_duration_seconds_count"
            found = (
                await mesh.metric(ended, ensemble="all", outcome="ok"),
                await mesh.metric(ended, ensemble="all", outcome="invalid_argument"),
                await mesh.metric(ended, ensemble="unknown", outcome="invalid_argument"),
                await mesh.metric(counted, route=route, status="200"),
                await mesh.metric(counted, route=route, status="400"),
            )
            return [one or 0.0 for one in found]

        before = await counts()
        await sdk.chat.completions.create(**ASK)
        for wrong in ({"n": 2}, {"temperature": 3.0}):
            with pytest.raises(openai.BadRequestError):
                await sdk.chat.completions.create(**ASK, **wrong)
        await mesh.becomes_idle()
        assert [now - then for then, now in zip(before, await counts(), strict=True)] == [
            1,
            1,  # is wrong for the ensemble
            1,  # is what no ensemble has, which nobody has looked at then
            1,
            2,
        ]


WRONG: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "several choices": ({"n": 2}, "n", "unsupported_parameter", "is 2"),
    "tools": ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter", "list of 1"),
    "tool_choice": ({"tool_choice": "required"}, "tool_choice", "unsupported_parameter", "req"),
    "functions": ({"functions": [{}]}, "functions", "unsupported_parameter", "a list of 1"),
    "function_call": (
        {"function_call": {"name": "f"}},
        "function_call",
        "unsupported_parameter",
        "o",
    ),
    "logprobs": ({"logprobs": True}, "logprobs", "unsupported_parameter", "is true"),
    "top_logprobs": ({"top_logprobs": 2}, "top_logprobs", "unsupported_parameter", "is 2"),
    "JSON": (
        {"response_format": {"type": "json_object"}},
        "response_format",
        "unsupported_parameter",
        'left out or {"type": "text"}',
    ),
    "logit_bias": ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter", "is an"),
    "presence": ({"presence_penalty": 0.5}, "presence_penalty", "unsupported_parameter", "is 0.5"),
    "frequency": ({"frequency_penalty": -1}, "frequency_penalty", "unsupported_parameter", "is -1"),
    "audio": (
        {"modalities": ["text", "audio"]},
        "modalities",
        "unsupported_parameter",
        "list of 2",
    ),
    "prediction": ({"prediction": {}}, "prediction", "unsupported_parameter", "is {}"),
    "effort": ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter", "high"),
    "a web search": ({"web_search_options": {}}, "web_search_options", "unsupported_parameter", ""),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
        "must be 'text'",
    ),
    "a tool's message": (
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages[0].role",
        "unsupported_value",
        "is 'tool'; must be 'system', 'developer', 'user' or 'assistant'",
    ),
    "a call of a tool": (
        {"messages": [{"role": "assistant", "tool_calls": [{}]}, *HELLO]},
        "messages[0].tool_calls",
        "unsupported_parameter",
        "is given",
    ),
    "a name": (
        {"messages": [{"role": "user", "content": "x", "name": "ada"}]},
        "messages[0].name",
        "unsupported_parameter",
        "is given",
    ),
    "no message": ({"messages": []}, "messages", "invalid_value", "at least 1 is needed"),
    "messages of text": ({"messages": "secret"}, "messages", "invalid_type", "string of 6 char"),
    "no content": (
        {"messages": [{"role": "user"}]},
        "messages[0].content",
        "missing_required_parameter",
        "is absent",
    ),
    "empty content": (
        {"messages": [{"role": "user", "content": ""}]},
        "messages[0].content",
        "invalid_value",
        "is empty",
    ),
    "the last not a user's": (
        {"messages": [*HELLO, {"role": "assistant", "content": "x"}]},
        "messages[1].role",
        "invalid_value",
        "must be a user's",
    ),
    "a late system": (
        {"messages": [*HELLO, {"role": "developer", "content": "x"}, *HELLO]},
        "messages[1].role",
        "invalid_value",
        "only the first",
    ),
    "temperature": ({"temperature": 2.5}, "temperature", "invalid_value", "is 2.5; must be 0 to 2"),
    "temperature as text": ({"temperature": "hot"}, "temperature", "invalid_type", "is 'hot'"),
    "top_p": ({"top_p": 0}, "top_p", "invalid_value", "must be above 0 and at most 1"),
    "seed": ({"seed": -1}, "seed", "invalid_value", "must be 0 to 18446744073709551615"),
    "a huge seed": ({"seed": 10**300}, "seed", "invalid_value", "must be 0 to"),
    "a seed that is true": ({"seed": True}, "seed", "invalid_type", "is true"),
    "max_tokens": ({"max_tokens": 101}, "max_tokens", "invalid_value", "is 101; must be 1 to 100"),
    "max_completion_tokens": (
        {"max_completion_tokens": 0},
        "max_completion_tokens",
        "invalid_value",
        "is 0; must be 1 to 100",
    ),
    "many stops": ({"stop": ["x"] * 17}, "stop", "invalid_value", "is 17 strings"),
    "an empty stop": ({"stop": [""]}, "stop[0]", "invalid_value", "1 to 256"),
    "a stop of a number": ({"stop": [3]}, "stop[0]", "invalid_type", "is 3"),
    "options without a stream": (
        {"stream_options": {"include_usage": True}},
        "stream_options",
        "invalid_value",
        "stream is not true",
    ),
    "metadata": ({"metadata": {"a": 1}}, "metadata.a", "invalid_type", "is 1"),
    "a setting of ours": (
        {"specfuse": {"segment_tokns": 3}},
        "specfuse.segment_tokns",
        "unknown_parameter",
        "these are: segment_tokens",
    ),
    "segment_tokens": (
        {"specfuse": {"segment_tokens": 1000}},
        "specfuse.segment_tokens",
        "invalid_value",
        "must be 1 to 64",
    ),
    "statistic": (
        {"specfuse": {"statistic": "mode"}},
        "specfuse.statistic",
        "unsupported_value",
        "'mode'",
    ),
    "recall where nobody leaves": (
        {"specfuse": {"recall": True, "exit_policy": "none"}},
        "specfuse.recall",
        "invalid_value",
        "contradicts",
    ),
    "top_k": ({"specfuse": {"top_k": 1001}}, "specfuse.top_k", "invalid_value", "0 to 1000"),
    "session_id": (
        {"specfuse": {"session_id": "x" * 129}},
        "specfuse.session_id",
        "invalid_value",
        "at most 128",
    ),
    "tokens of nothing": (
        {"specfuse": {"resume": {"committed_segments": [], "committed_tokens": 3}}},
        "specfuse.resume.committed_tokens",
        "invalid_value",
        "must be 0",
    ),
    "a resume of text": (
        {"specfuse": {"resume": "secret"}},
        "specfuse.resume",
        "invalid_type",
        "a string of 6 characters",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("fields", "param", "code", "says"), WRONG.values(), ids=WRONG)
async def test_a_wrong_field_is_named(
    sdk: AsyncOpenAI, fields: dict[str, Any], param: str, code: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.chat.completions.create(**ASK, extra_body=fields)
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert says in error.message
    assert "secret" not in error.message


WRONG_COMPLETIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an echo": ({"echo": True}, "echo", "is true, which is not supported"),
    "logprobs": ({"logprobs": 1}, "logprobs", "is 1"),
    "the best of many": ({"best_of": 3}, "best_of", "is 3"),
    "a suffix": ({"suffix": "x"}, "suffix", "'x'"),
    "many prompts": ({"prompt": ["a", "b"]}, "prompt", "is a list of 2; at most 1 are allowed"),
    "tokens": ({"prompt": [1]}, "prompt[0]", "must be a valid string"),
    "an empty prompt": ({"prompt": ""}, "prompt", "is empty"),
    "no prompt": ({"prompt": None}, "prompt", "must be a valid string"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("fields", "param", "says"), WRONG_COMPLETIONS.values(), ids=WRONG_COMPLETIONS
)
async def test_a_wrong_field_of_completions_is_named(
    sdk: AsyncOpenAI, fields: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.completions.create(**GO_ON, extra_body=fields)
    assert caught.value.param == param
    assert says in caught.value.message


FAILURES: dict[str, tuple[SpecFuseError, type[openai.APIStatusError], int, str]] = {
    "a wrong field": (
        InvalidArgument("seed", "is wrong"),
        openai.BadRequestError,
        400,
        "invalid_value",
    ),
    "overload": (Overloaded("full"), openai.InternalServerError, 503, "overloaded"),
    "nobody there": (Unavailable("gone"), openai.InternalServerError, 503, "unavailable"),
    "a bug": (Internal("broken"), openai.InternalServerError, 500, "internal_error"),
    "the time is up": (DeadlineExceeded("late"), openai.APIStatusError, 408, "deadline_exceeded"),
}


@pytest.mark.parametrize(("failure", "kind", "status", "code"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_the_sdks_own_exception(
    failure: SpecFuseError,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    *,
    stream: bool,
) -> None:
    """Also of a stream: its status is held until the first round is committed."""
    async with open_played(failure) as door, door.sdk() as sdk:
        with pytest.raises(kind) as caught:
            await sdk.chat.completions.create(**ASK, stream=stream)
    assert (type(caught.value), caught.value.status_code, caught.value.code) == (kind, status, code)
    assert caught.value.request_id
    assert ("retry-after" in caught.value.response.headers) == (status == 503)


async def test_what_no_model_takes_is_unprocessable() -> None:
    refusal = InvalidArgument("context", "has no template")
    async with open_played(STARTED, refusal) as door, door.sdk() as sdk:
        with pytest.raises(openai.UnprocessableEntityError, match="has no template") as caught:
            await sdk.chat.completions.create(**ASK)
    assert (caught.value.param, caught.value.code) == ("messages", "unprocessable_prompt")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_that_is_too_long_is_said_in_the_words_that_callers_look_for(
    *, stream: bool
) -> None:
    too_long = ContextTooLong(tokens=5000, window=4096)
    async with open_played(STARTED, too_long) as door, door.sdk() as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.completions.create(**GO_ON, stream=stream)
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")
    assert "This model's maximum context length is 4096 tokens" in caught.value.message


KEY = new_key()


def keyed(**team: Any) -> Directory:
    """One team, whose key is `KEY`."""
    directory = Directory({"search": Team("search", **team)})
    return directory.with_keys([Key(id_of(KEY), digest_of(KEY), "search")])


@pytest.mark.parametrize(
    "key", ["other", new_key(), KEY[:-1]], ids=["no key", "unknown", "cut off"]
)
async def test_who_shows_no_key_that_is_known_is_refused_before_anything_is_read(key: str) -> None:
    async with open_played(STARTED, directory=keyed()) as door, door.sdk(api_key=key) as sdk:
        for ask in (sdk.chat.completions.create(model="all", messages="wrong"), sdk.models.list()):  # type: ignore[arg-type]
            with pytest.raises(openai.AuthenticationError):
                await ask
        probe = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        assert (await answer_to(door.address, probe)).status == 200
    assert door.told.outcomes == ["unauthenticated", "unauthenticated"]
    assert not door.fusion.queries


async def test_a_team_sees_and_asks_what_it_may() -> None:
    directory = keyed(ensembles=frozenset({"other"}))
    async with open_played(STARTED, directory=directory) as door, door.sdk(api_key=KEY) as sdk:
        assert (await sdk.models.list()).data == []
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("all")
        with pytest.raises(openai.PermissionDeniedError, match="search may not ask all"):
            await sdk.chat.completions.create(**ASK)
    (account,) = door.told.accounts
    assert (account.outcome, account.ensemble) == ("forbidden", "all")


async def test_a_team_that_had_enough_is_told_when_to_come_back() -> None:
    directory = keyed(requests_per_minute=1)
    said = (STARTED, committed(1, "x"), finished())
    async with open_played(*said, directory=directory) as door, door.sdk(api_key=KEY) as sdk:
        await sdk.chat.completions.create(**ASK)
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(**ASK)
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
    assert door.told.outcomes == ["ok", "rate_limited"]


async def test_a_bug_is_told_by_the_requests_id_alone(caplog: pytest.LogCaptureFixture) -> None:
    bug = RuntimeError("secret of the prompt")
    async with open_played(STARTED, bug) as door, door.sdk() as sdk:
        with pytest.raises(openai.InternalServerError, match=r"under my-own\.id") as caught:
            await sdk.chat.completions.create(**ASK, extra_headers={"x-request-id": "my-own.id"})
    assert caught.value.request_id == "my-own.id"
    assert "secret" not in caught.value.message + caplog.text
    assert "request my-own.id failed: RuntimeError, raised at" in caplog.text


@pytest.mark.parametrize("body", [b"{}", b"{", b'{"model": 1}'])
async def test_a_request_with_no_sense_has_the_same_id_everywhere(body: bytes) -> None:
    request = posted(CHAT, body, "x-request-id: my-own.id", "connection: close")
    async with open_played() as door:
        response = await answer_to(door.address, request)
        (account,) = door.told.accounts
    assert (response.status, response.headers["x-request-id"]) == (400, "my-own.id")
    assert (account.request_id, account.outcome) == ("my-own.id", "invalid_argument")


async def test_the_log_has_no_method_that_a_caller_made_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    request = f"{'A' * 9000} /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with open_played() as door:
        assert (await answer_to(door.address, request.encode())).status == 405
    assert "? /v1/models 405" in caplog.text
    assert "AA" not in caplog.text


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "\xe9"])
async def test_an_insane_request_id_is_replaced(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_played(STARTED, committed(1, "x"), finished()) as door:
        request = posted("/v1/chat/completions", json.dumps(ASK).encode(), f"x-request-id: {given}")
        request = request.replace("é".encode(), "é".encode("latin-1"))
        async with calling(door.address, request) as caller:
            await caller.reader.readuntil(b"x-request-id: ")
            made = (await caller.reader.readline()).decode().strip()
    assert len(made) == 32
    assert "POST /v1/chat/completions 200" in caplog.text
    assert f"request {made}" in caplog.text


class TestInterruptions:
    async def test_a_stream_that_fails_says_how_to_go_on(self) -> None:
        lost = QuorumLost("nobody is left")
        begun = (STARTED, committed(1, "One", shown="On"), committed(2, " two", shown="e tw"))
        async with open_played(*begun, lost) as door, door.sdk() as sdk:
            stream = await sdk.chat.completions.create(**ASK, stream=True)
            text, error = await broken(stream)
        assert text == "One tw"
        assert error.message == "nobody is left"
        assert (error.code, error.type) == ("unavailable", "service_unavailable_error")
        assert error.body["specfuse"]["resume"] == {
            "committed_segments": ["One", " two"],
            "committed_tokens": 4,
        }

    async def test_a_whole_answer_that_fails_says_so_too_and_is_not_repeated(self) -> None:
        lost = QuorumLost("nobody is left")
        async with open_played(STARTED, committed(1, "One"), lost) as door:
            async with door.sdk(max_retries=3) as sdk:
                with pytest.raises(openai.InternalServerError) as caught:
                    await sdk.chat.completions.create(**ASK)
            assert len(door.fusion.queries) == 1
        body: Any = caught.value.body
        assert body["specfuse"]["resume"]["committed_segments"] == ["One"]

    async def test_what_has_not_begun_is_repeated_by_the_sdk(self) -> None:
        async with open_played(STARTED, Unavailable("gone")) as door:
            async with door.sdk(max_retries=1) as sdk:
                with pytest.raises(openai.InternalServerError):
                    await sdk.chat.completions.create(**ASK)
            assert len(door.fusion.queries) == 2

    async def test_an_answer_whose_members_die_goes_on_exactly(self) -> None:
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(Nodes())
            node = await nodes.start("a", Line(answer=PARIS), hold_from=2)
            http = {"http": {"listen": "127.0.0.1:0"}}
            mesh = await stack.enter_async_context(
                open_fuser({"a": node}, top=http, segment_tokens=3)
            )
            sdk = await stack.enter_async_context(sdk_of(mesh.fuser.http_address))
            stream = await sdk.chat.completions.create(**ASK, stream=True)
            reading = asyncio.create_task(broken(stream))
            await node.comes_to_wait()
            await node.kill()
            text, error = await reading
            other = await nodes.start("a", Line(answer=PARIS))
            more = await stack.enter_async_context(
                open_fuser({"a": other}, top=http, segment_tokens=3)
            )
            heir = await stack.enter_async_context(sdk_of(more.fuser.http_address))
            rest = await heir.chat.completions.create(
                **ASK, extra_body={"specfuse": error.body["specfuse"]}
            )
        assert text == "The capital of France is Paris"
        assert text + (rest.choices[0].message.content or "") == PARIS

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_caller_that_goes_away_frees_its_work(self, *, stream: bool) -> None:
        async with open_openai_mesh({"a": PARIS}) as (mesh, nodes, _):
            nodes["a"].backend.hold_from = 0
            body = json.dumps({**ASK, "stream": stream}).encode()
            async with calling(mesh.fuser.http_address, posted("/v1/chat/completions", body)):
                await nodes["a"].comes_to_wait()
            await nodes["a"].is_cancelled()
            await mesh.becomes_idle()
            name = "specfuse_request_duration_seconds_count"
            ended = await mesh.metric(name, ensemble="all", outcome="cancelled")
        assert ended == 1

    async def test_the_ensembles_time_limit_ends_an_answer(self) -> None:
        settings: dict[str, Any] = {"request_timeout_seconds": 0.3}
        async with open_openai_mesh({"a": PARIS}, **settings) as (_, nodes, sdk):
            nodes["a"].backend.hold_from = 0
            with pytest.raises(openai.APIStatusError) as caught:
                await sdk.chat.completions.create(**ASK)
        assert caught.value.status_code == 408
        assert caught.value.response.headers["x-should-retry"] == "false"

    async def test_the_sdks_time_limit_ends_the_work_of_a_whole_answer(self) -> None:
        async with open_openai_mesh({"a": PARIS}) as (mesh, nodes, sdk):
            nodes["a"].backend.hold_from = 0
            with pytest.raises((openai.APITimeoutError, openai.APIStatusError)):
                await sdk.chat.completions.create(**ASK, timeout=0.5)
            await nodes["a"].is_cancelled()
            await mesh.becomes_idle()
            deadline = nodes["a"].backend.deadlines[0]
        assert deadline.remaining == 0

    async def test_a_silent_stream_is_kept_alive(self) -> None:
        silence = asyncio.Event()
        events = (STARTED, silence, committed(1, "x"), finished())
        async with open_played(*events, silent_seconds=0.05) as door:
            body = json.dumps({**ASK, "stream": True}).encode()
            async with calling(door.address, posted("/v1/chat/completions", body)) as caller:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await caller.reader.readuntil(b": ping\n\n")
                    await caller.reader.readuntil(b": ping\n\n")
                    silence.set()
                    await caller.reader.readuntil(b"data: [DONE]\n\n")

    async def test_an_impatient_caller_does_not_have_pings_without_a_pause(self) -> None:
        pings: list[asyncio.Task[bytes]] = []
        async with AsyncExitStack() as stack:
            door = await stack.enter_async_context(open_played(STARTED, asyncio.Event()))
            body = json.dumps({**ASK, "stream": True}).encode()
            for patience in ("1e9", "1e-300"):
                began = time.monotonic()
                request = posted(CHAT, body, f"x-stainless-read-timeout: {patience}")
                caller = await stack.enter_async_context(calling(door.address, request))
                pings.append(asyncio.create_task(caller.reader.readuntil(b": ping\n\n")))
            await asyncio.wait(pings, timeout=PATIENCE_SECONDS, return_when="FIRST_COMPLETED")
            assert [one.done() for one in pings] == [False, True]
            assert time.monotonic() - began >= 0.1
            pings[0].cancel()

    async def test_pings_come_within_the_sdks_own_time_limit(self) -> None:
        silence = asyncio.Event()
        events = (STARTED, silence, committed(1, "x"), finished())
        async with open_played(*events) as door, door.sdk() as sdk:
            stream = await sdk.chat.completions.create(**ASK, stream=True, timeout=1.0)
            silence.set()
            assert len(await chunks_of(stream)) == 2


def posted(path: str, body: bytes, *headers: str) -> bytes:
    """The bytes of a request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class TestDrain:
    async def test_streams_in_flight_finish(self) -> None:
        more = asyncio.Event()
        events = (STARTED, committed(1, "One"), more, committed(2, " two"), finished())
        async with open_played(*events) as door, door.sdk() as sdk:
            stream = await sdk.chat.completions.create(**ASK, stream=True)
            first = await anext(stream)
            draining = asyncio.create_task(door.server.drain(PATIENCE_SECONDS))
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await answer_to(door.address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            more.set()
            rest = await chunks_of(stream)
            await draining
        assert "".join(one.choices[0].delta.content or "" for one in (first, *rest)) == "One two"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_what_does_not_finish_in_time_is_told_how_to_go_on(self, *, stream: bool) -> None:
        never = asyncio.Event()
        async with open_played(STARTED, committed(1, "One"), never) as door, door.sdk() as sdk:
            asking = asyncio.create_task(self._resume_of(sdk, stream=stream))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not door.fusion.queries:  # noqa: ASYNC110 (behind a socket)
                    await asyncio.sleep(0.01)
            await door.server.drain(0.3)
            assert await asking == {"committed_segments": ["One"], "committed_tokens": 2}
            async with asyncio.timeout(PATIENCE_SECONDS):
                await door.fusion.closed.acquire()
            assert door.server.connections == 0

    async def test_an_idle_connection_is_closed_at_once(self) -> None:
        asked = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        async with open_played() as door, calling(door.address, asked) as caller:
            await caller.reader.readuntil(b'"ok"}')
            await door.server.drain(PATIENCE_SECONDS)
            assert await caller.rest() == b""

    async def _resume_of(self, sdk: AsyncOpenAI, *, stream: bool) -> Any:
        if stream:
            _, error = await broken(await sdk.chat.completions.create(**ASK, stream=True))
        else:
            with pytest.raises(openai.InternalServerError) as caught:
                await sdk.chat.completions.create(**ASK)
            error = caught.value
        assert "the service shuts down" in error.message
        return error.body["specfuse"]["resume"]


async def test_both_doors_share_the_limit_of_requests_in_flight() -> None:
    top = {"limits": {"requests_in_flight": 1}}
    async with open_openai_mesh({"a": PARIS}, top=top) as (mesh, nodes, sdk):
        nodes["a"].backend.hold_from = 0
        asking = asyncio.create_task(mesh.ask())
        await nodes["a"].comes_to_wait()
        with pytest.raises(openai.InternalServerError, match="1 requests are in flight") as caught:
            await sdk.chat.completions.create(**ASK)
        nodes["a"].backend.opened.set()
        assert (await asking).text == PARIS
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "1"


async def test_an_ensemble_is_ready_with_its_quorum() -> None:
    async with open_openai_mesh({"a": PARIS, "b": PARIS}, quorum=2) as (mesh, nodes, _):
        await mesh.becomes_ready("a", "b")

        async def ready(query: str = "") -> tuple[int, Any]:
            request = f"GET /readyz{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            answer = await answer_to(mesh.fuser.http_address, request.encode())
            return answer.status, json.loads(answer.body)

        assert await ready() == (200, {"status": "ready", "ensembles": {"all": True}})
        assert (await ready("?ensemble=all"))[0] == 200
        status, body = await ready("?ensemble=none")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert body["error"]["message"] == "there is no such ensemble; there are: all"
        await nodes["b"].kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await ready())[0] == 200:  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.02)
        assert await ready() == (503, {"status": "not ready", "ensembles": {"all": False}})


async def status_for(address: str, host: str, path: str = "/healthz") -> tuple[int, Any]:
    """What is answered to a request with this host header."""
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    answer = await answer_to(address, request.encode())
    return answer.status, answer.body


async def test_without_tenancy_only_this_machines_names_are_answered_to() -> None:
    async with open_openai_mesh({"a": PARIS}) as (mesh, _, _sdk):
        address = mesh.fuser.http_address
        for own in ("localhost", "LocalHost:8000", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:80"):
            assert (await status_for(address, own))[0] == 200, own
        for foreign in (
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "0.0.0.0",
            "[::2]:80",
            "[::1].evil.example",
            "::1",
            "",
        ):
            status, body = await status_for(address, foreign)
            assert (status, json.loads(body)["error"]["code"]) == (403, "foreign_host"), foreign
        for path in ("/", "/v1/models", "/readyz", "/docs", "/openapi.json", "/nowhere"):
            assert (await status_for(address, "evil.example", path))[0] == 403, path


async def test_who_lets_everybody_in_is_asked_under_any_name() -> None:
    top = {"tenancy": {"anonymous": "allow"}}
    async with open_openai_mesh({"a": PARIS}, top=top) as (mesh, _, _sdk):
        assert (await status_for(mesh.fuser.http_address, "models.example"))[0] == 200


async def test_tokens_count_for_the_team_of_the_key_whatever_else_is_said(tmp_path: Path) -> None:
    entry = KeyEntry(id=id_of(KEY), sha256=digest_of(KEY), team="search")
    file = tmp_path / "keys.yaml"
    change(file, lambda entries: [*entries, entry])
    tenancy = {"keys": str(file), "teams": {"search": {}, "batch": {}}}
    async with open_openai_mesh({"a": PARIS}, top={"tenancy": tenancy}) as (mesh, _, nobody):
        with pytest.raises(openai.AuthenticationError):
            await nobody.chat.completions.create(**ASK)
        spoofed = {"x-specfuse-team": "batch", "openai-organization": "batch"}
        async with sdk_of(mesh.fuser.http_address, api_key=KEY) as sdk:
            await sdk.chat.completions.create(**ASK, extra_headers=spoofed, user="batch")
        tokens = await mesh.metric("specfuse_output_tokens_total", ensemble="all", team="search")
    assert tokens == 12
