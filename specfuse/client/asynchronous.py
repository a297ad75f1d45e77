"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import grpc
import grpc.aio

from specfuse.client.addresses import Addresses
from specfuse.client.attempts import Attempts
from specfuse.client.key import Headers, headers_of
from specfuse.client.query import Prompt, Query, QueryOptions, query_of
from specfuse.client.results import Answer, Ensemble, Event
from specfuse.client.tracing import trace_headers
from specfuse.client.wire import ensembles_of
from specfuse.deadline import Deadline
from specfuse.errors import SpecFuseError, Unavailable
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.rpc.tls import ClientTls
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub

if TYPE_CHECKING:
    from specfuse.v1.fuser_service_pb2_grpc import FuserServiceAsyncStub


class AsyncClient:
    """Asks a fuser. Connects at the first call; belongs to the event loop that makes it.

    An answer that is interrupted is gone on with; see `specfuse.client`.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        tls: ClientTls | None = None,
        api_key: str | None = None,
        allow_plaintext_key: bool = False,
    ) -> None:
        """A client of the fuser at `target`.

        Args:
            target: `host:port`, or those of several fusers that are alike: calls go to the first,
                and to the next whenever one fails. A name may have several addresses; calls go to
                them in turn.
            tls: How to trust the fuser and be known to it. None is plain text.
            api_key: The key that says who asks. None takes that of the environment, in
                SPECFUSE_API_KEY, if there is one; "" sends none.
            allow_plaintext_key: Whether the key may go to other machines without TLS, because the
                network encrypts by itself.

        Raises:
            Misconfigured: an empty target, or a key that would go to others in plain text.
        """
        self._addresses = Addresses(target)
        self._tls = tls
        self._headers = headers_of(
            api_key, self._addresses, encrypted=tls is not None or allow_plaintext_key
        )
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closed = asyncio.Event()

    def stream(
        self, prompt: Prompt, **options: Unpack[QueryOptions]
    ) -> AsyncGenerator[Event, None]:
        """The events of an answer as they come: `Started`, a `Segment` a round, `Finished`.

        Closing the iterator early ends the work. Wrap it in `contextlib.aclosing` for that.

        Raises:
            InvalidArgument: at once, for an option that cannot be sent; from the iterator, for what
                the fuser refuses.
            SpecFuseError: from the iterator, for whatever else goes wrong.
        """
        return self._events(query_of(prompt, options), trace_headers())

    async def generate(self, prompt: Prompt, **options: Unpack[QueryOptions]) -> Answer:
        """The complete answer.

        Raises:
            SpecFuseError: whatever goes wrong; with a `resume` if part of the answer has arrived.
        """
        query = query_of(prompt, options)
        async with aclosing(self._events(query, trace_headers())) as events:
            return Answer.of([event async for event in events], after=query.resumed.text)

    async def ensembles(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline that the service sees
    ) -> tuple[Ensemble, ...]:
        """The ensembles that can be asked, by name, within `timeout` seconds.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        deadline = Deadline.after(timeout)
        for _ in range(len(self._addresses) - 1):
            with suppress(Unavailable):
                return await self._ensembles(deadline)
        return await self._ensembles(deadline)

    async def close(self) -> None:
        """Closes the connections; answers still streaming are cancelled."""
        self._closed.set()
        for channel in tuple(self._channels.values()):
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _stub(self, address: str) -> FuserServiceAsyncStub:
        if address not in self._channels:
            self._channels[address] = open_channel(address, self._tls, spread=True)
        return FuserServiceStub(self._channels[address])

    async def _ensembles(self, deadline: Deadline) -> tuple[Ensemble, ...]:
        """What the fuser at the current address lists."""
        address = self._addresses.current
        try:
            response = await self._stub(address).ListEnsembles(
                pb.ListEnsemblesRequest(),
                timeout=deadline.timeout,
                metadata=(*self._headers, *trace_headers()),
            )
        except grpc.RpcError as error:
            raise self._failure(error, address) from error
        return ensembles_of(response)

    def _failure(self, error: grpc.RpcError, address: str) -> SpecFuseError:
        """What the error of a call to the address is here, once what follows from it is done.

        To be raised without a name: a frame of its traceback that had one would make a cycle, which
        keeps the connection open.
        """
        failure = from_rpc_error(error, peer=address)
        self._addresses.failed(address, failure)
        return failure

    async def _events(self, query: Query, trace: Headers) -> AsyncGenerator[Event, None]:
        attempts = Attempts(query, self._addresses)
        metadata = (*self._headers, *trace)
        while True:
            async with aclosing(self._stream(attempts, metadata)) as events:
                async for event in events:
                    yield event
            if attempts.complete:
                return
            if await self._closed_within(attempts.pause):
                raise attempts.cancelled()

    async def _stream(self, attempts: Attempts, metadata: Headers) -> AsyncGenerator[Event, None]:
        """The events of the next attempt."""
        call = self._stub(attempts.address).Generate(
            attempts.request, timeout=attempts.timeout, metadata=metadata
        )
        try:
            attempts.called(await call.initial_metadata())
            async for response in call:
                event = attempts.event(response)
                if event is not None:
                    yield event
            attempts.ended()
        except grpc.RpcError as error:
            end = attempts.interrupted(error)
            if end is not None:
                yield end
        finally:
            call.cancel()

    async def _closed_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)
        return self._closed.is_set()
