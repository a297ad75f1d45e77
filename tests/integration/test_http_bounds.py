"""What callers can hold of the HTTP door by reading nothing, sending little or much, or staying."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.directory import Directory
from fuser_service.tenancy.keys import Key, digest_of, id_of, new_key
from specfuse.http.bounds import Bounds
from tests.support.fuser_mesh import PATIENCE_SECONDS
from tests.support.http_caller import Caller, Parsed, answer_to, calling
from tests.support.openai_door import (
    HELLO,
    STARTED,
    committed,
    finished,
    open_played,
)

SHORT = 0.2
"""A limit that a test waits for."""
NEVER = 3600.0
PATIENT = Bounds(
    idle_seconds=NEVER, handshake_seconds=NEVER, body_seconds=NEVER, stall_seconds=NEVER
)
"""Bounds that no test waits for, to show that it is the one which it replaces that counts."""

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "all", "messages": HELLO}
SYSTEMS = 8 * 1024 * 1024
"""More than the operating system takes of a connection that nobody reads."""


def post(body: bytes, *headers: str, length: int | None = None, path: str = CHAT) -> bytes:
    announced = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json"]
    lines += [f"content-length: {announced}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def ask(**fields: Any) -> bytes:
    return post(json.dumps({**ASK, **fields}).encode())


async def next_response(caller: Caller) -> Parsed:
    """The next response on a connection that stays."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        head = await caller.reader.readuntil(b"\r\n\r\n")
        parsed = Parsed(head)
        parsed.body = await caller.reader.readexactly(int(parsed.headers["content-length"]))
    return parsed


def error_of(response: Parsed) -> dict[str, Any]:
    """The error, which must have OpenAI's form."""
    error = json.loads(response.body)["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return error


class TestSilence:
    """Callers that send nothing, or not all."""

    async def test_a_connection_without_a_request_is_closed(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, handshake_seconds=SHORT)) as door,
            calling(door.address) as caller,
        ):
            assert await caller.rest() == b""

    async def test_a_head_that_dribbles_in_is_not_waited_for(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, handshake_seconds=SHORT)) as door,
            calling(door.address, b"GET /healthz HTTP/1.1\r\n") as caller,
        ):
            ended = asyncio.create_task(caller.rest())
            while not ended.done():
                await caller.send(b"x: y\r\n")
                await asyncio.wait({ended}, timeout=SHORT / 10)
            assert ended.result() == b""

    async def test_neither_is_the_head_of_a_second_request(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, handshake_seconds=SHORT)) as door,
            calling(door.address, HEALTH) as caller,
        ):
            assert (await next_response(caller)).status == 200
            await caller.send(b"GET /healthz")
            assert await caller.rest() == b""

    async def test_an_idle_connection_is_closed(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, idle_seconds=SHORT)) as door,
            calling(door.address, HEALTH) as caller,
        ):
            assert (await next_response(caller)).status == 200
            assert await caller.rest() == b""

    async def test_half_a_body_is_a_408_and_the_end(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, body_seconds=SHORT)) as door,
            calling(door.address, post(b'{"model"', length=100)) as caller,
        ):
            response = await caller.response()
            assert response.status == 408
            assert error_of(response)["code"] == "request_incomplete"
        assert not door.fusion.queries

    async def test_half_a_body_that_nobody_reads_ends_the_connection(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, body_seconds=SHORT)) as door,
            calling(door.address, post(b"{", length=100, path="/nowhere")) as caller,
        ):
            assert (await next_response(caller)).status == 404
            assert await caller.rest() == b""

    async def test_a_request_that_nobody_completes_is_forgotten(self) -> None:
        async with open_played(bounds=PATIENT) as door:
            async with calling(door.address, post(b"{", length=100)):
                pass
            async with asyncio.timeout(PATIENCE_SECONDS):
                while door.server.connections:  # noqa: ASYNC110 (behind a socket)
                    await asyncio.sleep(0.01)
        assert door.told.responses == []


class TestSize:
    """Callers that send too much."""

    async def test_a_body_that_is_announced_too_large_is_refused_unread(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, body_bytes=100)) as door,
            calling(door.address, post(b"", length=101)) as caller,
        ):
            response = await next_response(caller)
            assert response.status == 413
            error = error_of(response)
        assert error["code"] == "request_too_large"
        assert error["message"] == "the body is 101 bytes; at most 100 bytes are allowed"

    async def test_one_that_turns_out_too_large_as_well(self) -> None:
        chunked = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            "transfer-encoding: chunked\r\n\r\n"
        ).encode()
        chunk = b"40\r\n" + b" " * 64 + b"\r\n"
        async with (
            open_played(bounds=replace(PATIENT, body_bytes=100)) as door,
            calling(door.address, chunked + 2 * chunk) as caller,
        ):
            response = await next_response(caller)
            assert (response.status, error_of(response)["code"]) == (413, "request_too_large")

    async def test_a_413_reaches_whoever_is_still_sending(self) -> None:
        async with (
            open_played(bounds=replace(PATIENT, body_bytes=100)) as door,
            calling(door.address, post(b"", length=SYSTEMS)) as caller,
        ):
            sending = asyncio.create_task(caller.send(b" " * SYSTEMS))
            assert (await next_response(caller)).status == 413
            await sending
            await caller.send(HEALTH)
            assert (await next_response(caller)).status == 200

    async def test_all_bodies_together_have_a_limit(self) -> None:
        bounds = replace(PATIENT, bodies_bytes=1000)
        async with open_played(STARTED, committed(1, "x"), finished(), bounds=bounds) as door:

            async def status_of(request: bytes) -> int:
                return (await answer_to(door.address, _closing(request))).status

            async with calling(door.address, post(b" " * 900, length=2000)) as first:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while await status_of(ask(user="u" * 200)) != 503:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)  # until the first is received
                first.writer.transport.abort()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await status_of(ask(user="u" * 200)) != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # until it is forgotten

    async def test_who_sends_much_leaves_room_for_other_teams(self) -> None:
        names = ("greedy", "modest")
        keys = {name: new_key() for name in names}
        directory = Directory({name: Team(name) for name in names}).with_keys(
            Key(id_of(key), digest_of(key), name) for name, key in keys.items()
        )
        bounds = replace(PATIENT, body_bytes=1000, bodies_bytes=4000)
        body = json.dumps({**ASK, "user": "u" * 200}).encode()
        half = post(b" " * 900, f"authorization: Bearer {keys['greedy']}", length=1000)
        said = (STARTED, committed(1, "x"), finished())
        async with open_played(*said, bounds=bounds, directory=directory) as door:

            async def answer(name: str) -> Parsed:
                request = post(body, f"authorization: Bearer {keys[name]}")
                return await answer_to(door.address, _closing(request))

            async with calling(door.address, half), asyncio.timeout(PATIENCE_SECONDS):
                while (refused := await answer("greedy")).status == 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # until the half is received
                assert (refused.status, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
                assert refused.headers["retry-after"] == "1"
                assert (await answer("modest")).status == 200

    async def test_a_head_has_a_limit(self) -> None:
        async with open_played(bounds=replace(PATIENT, head_bytes=1000)) as door:
            request = b"GET /healthz HTTP/1.1\r\nhost: x\r\ny: " + b"z" * 2000
            response = await answer_to(door.address, request)
            assert response.status == 400
            error_of(response)

    async def test_connections_have_a_limit_and_idle_ones_make_way(self) -> None:
        bounds = replace(PATIENT, connections=2)
        never = asyncio.Event()
        async with AsyncExitStack() as stack:
            door = await stack.enter_async_context(open_played(STARTED, never, bounds=bounds))
            idle = await stack.enter_async_context(calling(door.address, HEALTH))
            assert (await next_response(idle)).status == 200
            busy = [await stack.enter_async_context(calling(door.address, ask())) for _ in "ab"]
            assert await idle.rest() == b""
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(door.fusion.queries) < 2:  # noqa: ASYNC110 (behind a socket)
                    await asyncio.sleep(0.01)
            refused = await stack.enter_async_context(calling(door.address))
            assert await refused.rest() == b""
            assert not any(one.reader.at_eof() for one in busy)

    async def test_who_does_not_come_to_the_point_makes_way(self) -> None:
        bounds = replace(PATIENT, connections=2)
        async with AsyncExitStack() as stack:
            door = await stack.enter_async_context(open_played(bounds=bounds))
            first, second, third = [
                await stack.enter_async_context(calling(door.address, HEALTH[:-2]))
                for _ in range(3)
            ]
            assert await first.rest() == b""
            for caller in (second, third):
                await caller.send(b"\r\n")
                assert (await next_response(caller)).status == 200

    async def test_for_each_one_of_many_that_come_at_once_another_makes_way(self) -> None:
        async with AsyncExitStack() as stack:
            bounds = replace(PATIENT, connections=2)
            door = await stack.enter_async_context(open_played(bounds=bounds))
            coming = [stack.enter_async_context(calling(door.address)) for _ in range(8)]
            callers = await asyncio.gather(*coming)
            ends = [asyncio.create_task(caller.rest()) for caller in callers]
            async with asyncio.timeout(PATIENCE_SECONDS):
                while sum(end.done() for end in ends) < 6:
                    await asyncio.wait(
                        [end for end in ends if not end.done()], return_when="FIRST_COMPLETED"
                    )
            assert door.server.connections == 2
            for end in ends:
                end.cancel()


class TestReading:
    """Callers that do not read."""

    @pytest.mark.parametrize("limit", ["the answer's", "the connection's"])
    async def test_an_unread_stream_ends(self, limit: str) -> None:
        """With the time limit of the answer, or when nothing was read for too long.

        Nothing is written ahead for it, beyond what the operating system takes.
        """
        bounds = PATIENT if limit == "the answer's" else replace(PATIENT, stall_seconds=SHORT)
        seconds = 2 * SHORT if limit == "the answer's" else NEVER
        events = [committed(number, "x" * 65_536) for number in range(1, 1000)]
        async with (
            open_played(
                STARTED, *events, finished(), bounds=bounds, timeout_seconds=seconds
            ) as door,
            calling(door.address, ask(stream=True)),
        ):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await door.fusion.closed.acquire()
                while door.server.connections:  # noqa: ASYNC110 (behind a socket)
                    await asyncio.sleep(0.01)
        assert door.fusion.said * 65_536 < 2 * SYSTEMS

    async def test_an_unread_answer_ends_its_connection(self) -> None:
        """The work is done; what is left is what nobody takes."""
        answer = committed(1, "x" * 2 * SYSTEMS)
        bounds = replace(PATIENT, stall_seconds=SHORT)
        async with (
            open_played(STARTED, answer, finished(), bounds=bounds) as door,
            calling(door.address, ask()),
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            await door.fusion.closed.acquire()
            while door.server.connections:  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.01)
        assert door.told.outcomes == ["ok"]

    async def test_a_slow_reader_gets_everything(self) -> None:
        texts = [committed(number, "x" * 65_536) for number in range(1, 64)]
        received = bytearray()
        async with (
            open_played(STARTED, *texts, finished(), bounds=PATIENT) as door,
            calling(door.address, ask(stream=True)) as caller,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            while b"[DONE]" not in received[-64:]:
                received += await caller.reader.read(50_000)
        assert received.count(b'"segment"') == 63

    async def test_pipelined_requests_that_are_never_read_are_not_all_answered(self) -> None:
        bounds = replace(PATIENT, stall_seconds=SHORT)
        async with open_played(bounds=bounds) as door:
            docs = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
            async with calling(door.address) as caller:
                sending = asyncio.create_task(caller.send(docs * 10_000))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await sending
                    while door.server.connections:  # noqa: ASYNC110 (behind a socket)
                        await asyncio.sleep(0.01)
        assert len(door.told.responses) < 10_000


class TestNonsense:
    """What is no request of this API."""

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
            b"what is this\r\n\r\n",
            b"\r\n",
            b"GET /healthz HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nhost: x\r\nbad header: y\r\n\r\n",
            b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            b"POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding: what\r\n\r\n",
        ],
    )
    async def test_what_is_no_http_is_a_400(self, garbage: bytes) -> None:
        async with open_played(bounds=PATIENT) as door:
            response = await answer_to(door.address, garbage)
        assert response.status == 400
        error_of(response)

    async def test_garbage_behind_a_request_costs_only_the_connection(self) -> None:
        async with (
            open_played(STARTED, committed(1, "x"), finished(), bounds=PATIENT) as door,
            calling(door.address, ask() + b"\x00garbage\r\n\r\n") as caller,
        ):
            assert (await next_response(caller)).status == 200
            assert (await caller.response()).status == 400

    async def test_nothing_is_read_behind_a_request_with_two_lengths(self) -> None:
        body = json.dumps(ASK).encode()
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        request = post(chunked, "transfer-encoding: chunked", length=5)
        async with (
            open_played(STARTED, committed(1, "x"), finished(), bounds=PATIENT) as door,
            calling(door.address, request + HEALTH) as caller,
        ):
            response = await caller.response()
            assert (response.status, response.headers["connection"]) == (200, "close")
            assert json.loads(response.body)["object"] == "chat.completion"

    async def test_garbage_within_a_body_while_its_answer_is_sent(self) -> None:
        head = b"POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        async with open_played(bounds=PATIENT) as door, calling(door.address, head) as caller:
            assert (await next_response(caller)).status == 404
            await caller.send(b"garbage\r\n")
            assert await caller.rest() == b""

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "EOF"),
            (b"{", "EOF"),
            (b"nothing", "not JSON"),
            (b"\xff\xfe{}", "not JSON in UTF-8"),
            (b'{"model": "\xff"}', "not JSON in UTF-8"),
            (b'{"model": "\\ud800"}', "not JSON"),
            (b'{"temperature": NaN}', "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b'{"a":' * 100_000, "not JSON"),
            (b'{"seed": ' + b"9" * 10_000 + b"}", "not JSON"),
            (b"[]", "the body is a list of 0; it must be a JSON object"),
            (b"null", "the body is null"),
            (b'"secret"', "the body is a string of 6 characters; it must be a JSON object"),
            (b"1e999", "the body is"),
        ],
    )
    async def test_what_is_no_json_object_is_a_400(self, body: bytes, says: str) -> None:
        async with open_played(bounds=PATIENT) as door:
            response = await answer_to(door.address, _closing(post(body)))
            assert response.status == 400
            assert says in error_of(response)["message"]

    async def test_another_content_type_is_a_415(self) -> None:
        async with open_played(bounds=PATIENT) as door:
            request = ask().replace(b"application/json", b"text/plain")
            response = await answer_to(door.address, _closing(request))
            assert (response.status, error_of(response)["code"]) == (415, "unsupported_media_type")

    @pytest.mark.parametrize(
        ("encodings", "status"),
        [
            (["gzip"], 415),
            (["identity, br"], 415),
            (["identity", "GZIP"], 415),
            (["Identity"], 200),
            ([""], 200),
        ],
    )
    async def test_an_encoded_body_is_a_415(self, encodings: list[str], status: int) -> None:
        headers = [f"content-encoding: {one}" for one in encodings]
        async with open_played(STARTED, committed(1, "x"), finished(), bounds=PATIENT) as door:
            request = _closing(post(json.dumps(ASK).encode(), *headers))
            response = await answer_to(door.address, request)
            assert response.status == status
            if status != 200:
                assert error_of(response)["code"] == "unsupported_media_type"
                assert response.headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize(
        "path", ["/page", "/v1", "/v1/responses", "/v1/models/", "/%00", "/../x"]
    )
    async def test_another_path_is_a_404_that_names_what_there_is(self, path: str) -> None:
        async with open_played(bounds=PATIENT) as door:
            request = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            response = await answer_to(door.address, request.encode())
            assert response.status == 404
            error_of(response)

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET, HEAD"), ("PUT", "/docs", "GET, HEAD")],
    )
    async def test_another_method_is_a_405(self, method: str, path: str, allowed: str) -> None:
        async with open_played(bounds=PATIENT) as door:
            request = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            response = await answer_to(door.address, request.encode())
            assert response.status == 405
            assert sorted(response.headers["allow"].split(", ")) == allowed.split(", ")
            assert "it takes: " in error_of(response)["message"]

    async def test_an_upgrade_is_not_taken(self) -> None:
        async with open_played(bounds=PATIENT) as door:
            upgrade = (
                b"GET /healthz HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
                b"connection: upgrade, close\r\nsec-websocket-key: x\r\n\r\n"
            )
            async with calling(door.address, upgrade) as caller:
                assert (await next_response(caller)).status == 200


async def test_the_description_loads_nothing_from_elsewhere() -> None:
    async with open_played(bounds=PATIENT) as door:
        page = await answer_to(
            door.address, b"GET /docs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
    assert page.status == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    text = page.body.decode()
    assert "POST /v1/chat/completions" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text


def _closing(request: bytes) -> bytes:
    """The request as the last of its connection."""
    return request.replace(b"\r\nhost: x", b"\r\nhost: x\r\nconnection: close", 1)
