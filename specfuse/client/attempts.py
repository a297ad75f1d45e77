"""One answer, in as many streams as it takes: all that clients do, but for calling and waiting."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

import grpc

from specfuse.client.addresses import Addresses
from specfuse.client.query import Query
from specfuse.client.results import Event, Finished
from specfuse.client.resumption import Retries
from specfuse.client.transcript import Transcript
from specfuse.deadline import Deadline
from specfuse.errors import Cancelled, Internal, SpecFuseError, Unavailable
from specfuse.headers import REQUEST_ID
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import fuser_service_pb2 as pb

_MOST_ID_CHARACTERS: Final = 128
"""A longer id is none: people are to read it, and look it up."""


class Attempts:
    """Says whom to ask for what; is told what comes of it, and says how to go on.

        attempts = Attempts(query, addresses)
        while not attempts.complete:
            call attempts.address with attempts.request within attempts.timeout:
                give what comes before the first response to called;
                give every response to event, and an error to interrupted;
                if it just ends, say ended
            if it is not complete, wait for attempts.pause seconds

    The time that the caller gave begins when this is made, and is for all streams together.
    """

    def __init__(
        self, query: Query, addresses: Addresses, draw: Callable[[], float] = random.random
    ) -> None:
        """The attempts at a query at these addresses; `draw` gives numbers from 0 to 1."""
        self._query = query
        self._addresses = addresses
        self._draw = draw
        self._deadline = Deadline.after(query.timeout)
        self._transcript = Transcript(query.resumed)
        self._retries = Retries(len(addresses))
        self.request = query.request
        self.address = addresses.current
        self.pause = 0.0

    @property
    def complete(self) -> bool:
        """Whether all of the answer is here."""
        return self._transcript.complete

    @property
    def timeout(self) -> float | None:
        """Seconds that a stream may take now."""
        return self._deadline.timeout

    def called(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Takes what the fuser sent first, or nothing if it sent nothing: it has its id."""
        ids = (value for name, value in metadata or () if name == REQUEST_ID)
        given = next(ids, "")
        if isinstance(given, str) and len(given) <= _MOST_ID_CHARACTERS:
            self._transcript.called(given)

    def event(self, response: pb.GenerateResponse) -> Event | None:
        """Takes the next response; see `Transcript.event`."""
        try:
            return self._transcript.event(response)
        except Internal as error:
            error.request_ids = self._transcript.request_ids
            raise

    def ended(self) -> None:
        """The stream ended as it should.

        Raises:
            Unavailable: but the answer did not. No fuser does that, so there is no going on.
        """
        if not self.complete:
            raise self._transcript.interrupted_by(
                Unavailable(f"the stream from {self.address} ended before the answer did")
            )

    def cancelled(self) -> SpecFuseError:
        """What to raise if the client is closed before the answer is complete."""
        return self._transcript.interrupted_by(Cancelled("the client was closed"))

    def interrupted(self, error: grpc.RpcError) -> Finished | None:
        """The stream ended in an error.

        Returns the answer's end, if the answer lacks nothing but that.

        Raises:
            SpecFuseError: there is no going on. It says where the answer stands.
        """
        if self.complete:
            return None
        failure = self._transcript.interrupted_by(from_rpc_error(error, peer=self.address))
        self._addresses.failed(self.address, failure)
        try:
            retries = self._retries_after(failure)
            if retries is None:
                raise failure from error
            end = self._transcript.end_at_last_segment(self._query.request.stop)
            if end is not None:
                return end
            self.pause = max(retries.pause(self._draw()), failure.retry_after_seconds)
            if self.pause >= self._deadline.remaining:
                raise failure from error
        finally:
            del failure  # its traceback has this frame: a cycle would keep the connection open
        self._go_on(retries)
        return None

    def _retries_after(self, failure: SpecFuseError) -> Retries | None:
        """The retries that are left; None if there is no going on."""
        if not self._query.resumes:
            return None
        transcript = self._transcript
        return self._retries.after(
            failure, admitted=transcript.admitted, advanced=transcript.advanced
        )

    def _go_on(self, retries: Retries) -> None:
        """Makes ready for another stream, which goes on from where the answer stands.

        It names the ensemble and the session of the first one: the ensemble, because another fuser
        may have another one to take when none is named; the session, because caches know it.
        """
        self._retries = retries
        self.address = self._addresses.current
        self._transcript.next_stream()
        request = pb.GenerateRequest()
        request.CopyFrom(self._query.request)
        point = self._transcript.point
        request.committed_segments[:] = point.committed_segments
        request.committed_tokens = point.committed_tokens
        if started := self._transcript.started:
            request.ensemble, request.session_id = started.ensemble, started.session_id
        self.request = request
