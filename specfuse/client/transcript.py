"""What an answer's stream has given so far: an interrupted answer is not a lost one. Pure."""

from __future__ import annotations

import grpc

from specfuse.client.results import Event, Finished, Segment
from specfuse.client.wire import event_of
from specfuse.errors import QuorumLost, ResumePoint, SpecFuseError, Unavailable
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import fuser_service_pb2 as pb


class Transcript:
    """Follows one stream and knows, at any point, where its answer stands."""

    def __init__(self, target: str, resumed: ResumePoint) -> None:
        """Begins where the stream does: at the start, or at the point it resumes from."""
        self._target = target
        self._segments = [*resumed.committed_segments]
        self._tokens = resumed.committed_tokens
        self._texts = [resumed.text]
        self._complete = False

    def event(self, response: pb.GenerateResponse) -> Event | None:
        """Takes the next response down; returns its event, if it is of a kind known here."""
        event = event_of(response)
        if isinstance(event, Segment):
            self._segments.append(event.segment)
            self._tokens += event.token_count
            self._texts.append(event.text)
        elif isinstance(event, Finished):
            self._complete = True
        return event

    def ended(self) -> None:
        """The stream ended as it should.

        Raises:
            Unavailable: but the answer did not.
        """
        if not self._complete:
            raise self._interrupted_by(
                Unavailable(f"the stream from {self._target} ended before the answer did")
            )

    def failure(self, error: grpc.RpcError) -> SpecFuseError:
        """What to raise for an error that ended the stream."""
        return self._interrupted_by(from_rpc_error(error, peer=self._target))

    def _interrupted_by(self, error: SpecFuseError) -> SpecFuseError:
        """The error, told where the answer stands: all that came before it was received."""
        if self._segments:
            error.resume = ResumePoint(tuple(self._segments), self._tokens, "".join(self._texts))
        if isinstance(error, QuorumLost):
            error.committed_segments = tuple(self._segments)
            error.committed_tokens = self._tokens
        return error
