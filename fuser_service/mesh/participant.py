"""A member's part in one query: every call of it is made here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from opentelemetry.trace import Tracer

from fuser_service.core.types import Candidate, Context, MemberName, Proposal, Sampling, Score
from fuser_service.mesh import wire
from fuser_service.mesh.attempts import Attempts, SecondCall
from fuser_service.mesh.budget import Budget
from fuser_service.mesh.pace import Pace
from fuser_service.mesh.pool import Hold, Pool
from fuser_service.mesh.replica import Answered, Replica
from fuser_service.mesh.spans import CallSpans
from fuser_service.mesh.stub import PROPOSE, SCORE, Method
from specfuse.deadline import Deadline
from specfuse.errors import RevisionLost

Response = TypeVar("Response")

_logger = logging.getLogger(__name__)


class MeshObserver(Protocol):
    """Told what members need besides their calls. Must be fast and must not raise."""

    def second_call(self, member: MemberName, why: SecondCall) -> None:
        """A call is made again, at the same replica or another."""

    def revision_lost(self, member: MemberName) -> None:
        """A query lost the member, as only replicas of other revisions were left."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all queries of a member have in common."""

    name: MemberName
    pool: Pool
    observer: MeshObserver
    tracer: Tracer
    budget: Budget = field(default_factory=Budget)
    proposing: Pace = field(default_factory=Pace)
    scoring: Pace = field(default_factory=Pace)


class GrpcParticipant:
    """Implements `fuser_service.fusion.ports.Participant`."""

    def __init__(self, member: Shared, session_id: str) -> None:
        self._member = member
        self._hold = Hold(session_id)

    async def propose(
        self,
        context: Context,
        *,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str],
        deadline: Deadline,
    ) -> Proposal:
        """The member's next segment, at most `max_tokens` of its own tokens."""
        request = wire.propose_request(context, max_tokens=max_tokens, sampling=sampling, stop=stop)
        response = await self._asked(PROPOSE, request, self._member.proposing, deadline)
        return wire.proposal(response)

    async def score(
        self, context: Context, candidates: Sequence[Candidate], *, deadline: Deadline
    ) -> tuple[Score, ...]:
        """The member's score of each candidate, in order."""
        request = wire.score_request(context, candidates)
        response = await self._asked(SCORE, request, self._member.scoring, deadline)
        return wire.scores(response, expected=len(candidates))

    def leave(self) -> None:
        """The query is over: no call of it is made any more."""
        self._hold.streams.close()

    async def _asked(
        self, method: Method[Response], request: bytes, pace: Pace, deadline: Deadline
    ) -> Response:
        member = self._member
        send = partial(_send, method, request, self._hold)
        spans = CallSpans(member.tracer, member.name, method.name)
        again = partial(member.observer.second_call, member.name)
        try:
            return await Attempts(
                member.pool, self._hold, send, pace, member.budget, again, spans
            ).run(deadline)
        except RevisionLost as error:
            member.observer.revision_lost(member.name)
            _logger.info("%s: a query goes on without it: %s", member.name, error.message)
            raise


async def _send(
    method: Method[Response],
    request: bytes,
    hold: Hold,
    replica: Replica,
    deadline: Deadline,
) -> Answered[Response]:
    return await replica.call(method, request, deadline, hold.lineage, hold.streams)
