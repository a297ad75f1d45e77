"""The client for code without an event loop."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from types import TracebackType
from typing import Self, Unpack

import grpc

from specfuse.client.query import Prompt, Query, QueryOptions, headers_of, query_of
from specfuse.client.results import Answer, Ensemble, Event
from specfuse.client.transcript import Transcript
from specfuse.client.wire import ensembles_of
from specfuse.rpc.channels import open_blocking_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.rpc.tls import ClientTls
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub


class Client:
    """Asks a fuser, blocking. Connects at the first call; safe to share between threads.

    What interrupts an answer carries, as `resume`, what a new call needs to go on with it; see
    `specfuse.client`.
    """

    def __init__(self, target: str, *, tls: ClientTls | None = None, team: str = "") -> None:
        """A client of the fuser at `target`.

        Args:
            target: `host:port`.
            tls: How to trust the fuser and be known to it. None is plain text.
            team: For whom calls are made: the fuser counts tokens by it.

        Raises:
            Misconfigured: an empty target, or TLS files that are not what they should be.
        """
        self._target = target
        self._headers = headers_of(team)
        self._channel = open_blocking_channel(target, tls)
        self._stub = FuserServiceStub(self._channel)

    def stream(
        self, prompt: Prompt, **options: Unpack[QueryOptions]
    ) -> Generator[Event, None, None]:
        """The events of an answer as they come: `Started`, a `Segment` a round, `Finished`.

        Closing the iterator early (as leaving a `for` loop over it does) ends the work.

        Raises:
            InvalidArgument: at once, for an option that cannot be sent; from the iterator, for what
                the fuser refuses.
            SpecFuseError: from the iterator, for whatever else goes wrong.
        """
        return self._events(query_of(prompt, options))

    def generate(self, prompt: Prompt, **options: Unpack[QueryOptions]) -> Answer:
        """The complete answer.

        Raises:
            SpecFuseError: whatever goes wrong; one with a `resume` if some of the answer stands.
        """
        query = query_of(prompt, options)
        with closing(self._events(query)) as events:
            return Answer.of(list(events), after=query.resumed.text)

    def ensembles(self, timeout: float | None = None) -> tuple[Ensemble, ...]:
        """The ensembles that can be asked, by name, within `timeout` seconds.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        try:
            response = self._stub.ListEnsembles(
                pb.ListEnsemblesRequest(), timeout=timeout, metadata=self._headers
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._target) from error
        return ensembles_of(response)

    def close(self) -> None:
        """Closes the connection; answers still streaming are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _events(self, query: Query) -> Generator[Event, None, None]:
        transcript = Transcript(self._target, query.resumed)
        call = self._stub.Generate(query.request, timeout=query.timeout, metadata=self._headers)
        try:
            for response in call:
                event = transcript.event(response)
                if event is not None:
                    yield event
        except grpc.RpcError as error:
            raise transcript.failure(error) from error
        finally:
            call.cancel()
        transcript.ended()
