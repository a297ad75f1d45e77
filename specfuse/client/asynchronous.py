"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import grpc
import grpc.aio

from specfuse.client.query import Prompt, Query, QueryOptions, headers_of, query_of
from specfuse.client.results import Answer, Ensemble, Event
from specfuse.client.transcript import Transcript
from specfuse.client.wire import ensembles_of
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.rpc.tls import ClientTls
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub

if TYPE_CHECKING:
    from specfuse.v1.fuser_service_pb2_grpc import FuserServiceAsyncStub


class AsyncClient:
    """Asks a fuser. Connects at the first call; belongs to the event loop that makes it.

    What interrupts an answer carries, as `resume`, what a new call needs to go on with it; see
    `specfuse.client`.
    """

    def __init__(self, target: str, *, tls: ClientTls | None = None, team: str = "") -> None:
        """A client of the fuser at `target`.

        Args:
            target: `host:port`.
            tls: How to trust the fuser and be known to it. None is plain text.
            team: For whom calls are made: the fuser counts tokens by it.
        """
        self._target = target
        self._tls = tls
        self._headers = headers_of(team)
        self._channel: grpc.aio.Channel | None = None

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
        return self._events(query_of(prompt, options))

    async def generate(self, prompt: Prompt, **options: Unpack[QueryOptions]) -> Answer:
        """The complete answer.

        Raises:
            SpecFuseError: whatever goes wrong; one with a `resume` if some of the answer stands.
        """
        query = query_of(prompt, options)
        async with aclosing(self._events(query)) as events:
            return Answer.of([event async for event in events], after=query.resumed.text)

    async def ensembles(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline that the service sees
    ) -> tuple[Ensemble, ...]:
        """The ensembles that can be asked, by name, within `timeout` seconds.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        try:
            response = await self._stub().ListEnsembles(
                pb.ListEnsemblesRequest(), timeout=timeout, metadata=self._headers
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._target) from error
        return ensembles_of(response)

    async def close(self) -> None:
        """Closes the connection; answers still streaming are cancelled."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _stub(self) -> FuserServiceAsyncStub:
        if self._channel is None:
            self._channel = open_channel(self._target, self._tls)
        return FuserServiceStub(self._channel)

    async def _events(self, query: Query) -> AsyncGenerator[Event, None]:
        transcript = Transcript(self._target, query.resumed)
        call = self._stub().Generate(query.request, timeout=query.timeout, metadata=self._headers)
        try:
            async for response in call:
                event = transcript.event(response)
                if event is not None:
                    yield event
        except grpc.RpcError as error:
            raise transcript.failure(error) from error
        finally:
            call.cancel()
        transcript.ended()
