"""EndpointSlices from an API server: all of them, and then each change.

The client of the `kubernetes` package knows how to reach the server, who we are, and the token that
is renewed. Its `Watch` is not used: it goes on for ever by itself, at once and whatever is wrong,
and takes an answer that is not JSON for an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from kubernetes.aio import client
from pydantic import TypeAdapter, ValidationError

from fuser_service.mesh.discovery.kubernetes.account import ServiceAccount
from fuser_service.mesh.discovery.kubernetes.slices import (
    EndpointSliceList,
    Event,
    Failed,
    News,
    Status,
)
from fuser_service.mesh.discovery.kubernetes.trouble import Expired, Trouble
from specfuse.errors import Misconfigured

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)

_LONGEST_SHOWN: Final = 300
"""Characters of the server's own words in a log."""


class SliceApi:
    """The EndpointSlices of namespaces. An answer has to begin within `answer_seconds`."""

    def __init__(self, api: Any, answer_seconds: float) -> None:  # noqa: ANN401 (untyped)
        self._discovery = client.DiscoveryV1Api(api)
        self._answer_seconds = answer_seconds

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, account: ServiceAccount, answer_seconds: float
    ) -> AsyncIterator[SliceApi]:
        """A client with the token and the authorities that are in the account's files now.

        Raises:
            Trouble: there are none.
        """
        try:
            api = await asyncio.to_thread(lambda: client.ApiClient(account.configuration()))
        except (Misconfigured, OSError) as error:
            raise Trouble("account", f"the service account cannot be read: {error}") from error
        async with api:
            yield cls(api, answer_seconds)

    async def list(self, namespace: str, **asked: str) -> EndpointSliceList:
        """All slices that there are. `asked` are parameters of the request.

        Raises:
            Trouble: it could not be asked, or gave no such answer.
        """
        async with _translated(), asyncio.timeout(self._answer_seconds):
            response = await self._request(namespace, self._answer_seconds, **asked)
            async with response:
                await _check(response, "list")
                return EndpointSliceList.model_validate_json(await response.read())

    async def watch(
        self, namespace: str, selector: str, since: str, seconds: int
    ) -> AsyncGenerator[News, None]:
        """Each change after the version `since`, until the server ends it after `seconds`.

        Raises:
            Expired: the version is too old.
            Trouble: it could not be asked, broke off, was silent for too long, or said nonsense.
        """
        patience = seconds + self._answer_seconds
        ends = asyncio.get_running_loop().time() + patience
        async with _translated():
            async with asyncio.timeout(self._answer_seconds):
                response = await self._request(
                    namespace,
                    patience,
                    label_selector=selector,
                    resource_version=since,
                    timeout_seconds=seconds,
                    watch=True,
                    allow_watch_bookmarks=True,
                )
            async with response:
                async with asyncio.timeout_at(ends):
                    await _check(response, "watch")
                while line := await _line(response, ends):
                    yield _told(line)

    async def _request(
        self,
        namespace: str,
        patience: float,
        **asked: Any,  # noqa: ANN401 (text, numbers and flags)
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = (
            await self._discovery.list_namespaced_endpoint_slice_without_preload_content(
                namespace, _request_timeout=float(patience), **asked
            )
        )
        return response


def _told(line: bytes) -> News:
    """An event of a watch.

    Raises:
        Expired, Trouble: the event is an error.
        ValidationError: it is no event.
    """
    event = _EVENT.validate_json(line)
    if isinstance(event, Failed):
        raise _refusal(event.object, "watch")
    return event


async def _line(response: aiohttp.ClientResponse, ends: float) -> bytes:
    """The next line; empty at the end."""
    async with asyncio.timeout_at(ends):
        return await response.content.readline()


async def _check(response: aiohttp.ClientResponse, verb: str) -> None:
    """Raises the trouble that an answer with the status of an error stands for."""
    if response.status == HTTPStatus.OK:
        return
    try:
        said = Status.model_validate_json(await response.read()).message
    except ValidationError:
        said = ""  # it is not the API server that answers, or not in its own words
    after = response.headers.get("Retry-After", "")
    trouble = _refusal(Status(code=response.status, message=said), verb)
    trouble.after_seconds = float(after) if after.isdecimal() else 0.0
    raise trouble


def _refusal(status: Status, verb: str) -> Trouble:
    match status.code:
        case HTTPStatus.GONE:
            return Expired()
        case HTTPStatus.UNAUTHORIZED:
            text = "the API server does not take the service account's token"
        case HTTPStatus.FORBIDDEN:
            text = (
                f"the service account may not {verb} them; it needs a Role of their namespace with "
                "get, list and watch on endpointslices of discovery.k8s.io"
            )
        case HTTPStatus.NOT_FOUND:
            text = "the API server does not have discovery.k8s.io/v1"
        case HTTPStatus.TOO_MANY_REQUESTS:
            text = "the API server is overloaded"
        case _:
            text = "the API server answers with an error"
    said = f": {status.message[:_LONGEST_SHOWN]}" if status.message else ""
    return Trouble(f"status {status.code}", f"{text} ({status.code}{said})")


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Has what the client and the parser raise be `Trouble`."""
    try:
        yield
    except TimeoutError as error:
        raise Trouble("silence", "the API server does not answer") from error
    except (aiohttp.ClientError, OSError) as error:
        detail = str(error) or type(error).__name__
        text = f"the API server cannot be reached, or breaks off: {detail}"
        raise Trouble("connection", text) from error
    except ValueError as error:  # no JSON, another object, a line without end
        raise Trouble("answer", "the API server's answer is not what it should be") from error
