"""The port `model_service.ports.Backend`, on a server that runs the model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from model_service.backends.remote.client import ServerClient
from model_service.backends.remote.proposals import judged_score, proposal_of
from model_service.backends.remote.server import (
    Branch,
    Generated,
    Judged,
    Server,
    TokenizedContext,
)
from model_service.backends.remote.trials import Abilities
from model_service.backends.remote.watch import Watch
from model_service.backends.text.contexts import ContextEncoder
from model_service.backends.text.lanes import Lanes
from model_service.core.types import (
    ModelDescription,
    Proposal,
    ProposeRequest,
    Score,
    ScoreRequest,
    Scores,
    Usage,
)
from model_service.ports import RemoteObserver
from specfuse.deadline import Deadline
from specfuse.errors import ModelFailure


@dataclass(frozen=True, slots=True)
class Connection:
    """A server that was tried out, the client that it is asked with, and who keeps an eye on it."""

    server: Server
    client: ServerClient
    watch: Watch
    abilities: Abilities


class RemoteBackend:
    """Serves one model. Calls are tokenized on worker threads; the server does the rest."""

    def __init__(
        self,
        model: ModelDescription,
        encoder: ContextEncoder,
        connection: Connection,
        observer: RemoteObserver,
    ) -> None:
        """Takes over the client: closing the backend closes it. Looks after the server at once."""
        self._model = model
        self._encoder = encoder
        self._server = connection.server
        self._client = connection.client
        self._watch = connection.watch
        self._abilities = connection.abilities
        self._observer = observer
        self._lanes = Lanes()
        self._watching = asyncio.create_task(self._watch.run())

    @property
    def model(self) -> ModelDescription:
        """What is served."""
        return self._model

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        """Drafts the next segment."""
        context = await self._lanes.run(self._context, request)
        generated = await self._watch.answer(
            partial(self._generated, context, request, deadline), deadline
        )
        usage = self._ingested(context, generated.cached_tokens)
        proposal = partial(
            proposal_of, tokenizer=self._encoder.tokenizer, generated=generated, usage=usage
        )
        return await self._lanes.run(proposal, request)

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        """Scores every candidate, teacher-forced."""
        context, branches = await self._lanes.run(self._branches, request)
        judged: Judged = await self._watch.answer(
            partial(self._server.judge, context, branches, deadline), deadline
        )
        usage = self._ingested(context, judged.cached_tokens)
        scores = partial(self._scores, judged if self._abilities.evidence else _bare(judged))
        return Scores(await self._lanes.run(scores, request), usage)

    async def close(self) -> None:
        """Stops looking after the server, and closes the connections to it. Idempotent."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._client.close()
        self._lanes.close()

    async def _generated(
        self, context: TokenizedContext, request: ProposeRequest, deadline: Deadline
    ) -> Generated:
        generated = await self._server.generate(
            context, request.max_tokens, request.sampling, deadline
        )
        able = self._abilities
        exact = able.exact if request.sampling.greedy else able.exact_when_sampling
        known = generated if able.evidence else replace(generated, best=None)
        return known if exact else replace(known, logprobs=None)

    def _context(self, request: ProposeRequest) -> TokenizedContext:
        ids = self._encoder.context_ids(request.context, request.max_tokens)
        return TokenizedContext(request.context, ids)

    def _branches(self, request: ScoreRequest) -> tuple[TokenizedContext, tuple[Branch, ...]]:
        ids, branches = self._encoder.branches(request.context, request.candidates)
        return TokenizedContext(request.context, ids), tuple(
            map(Branch, request.candidates, branches)
        )

    def _scores(self, judged: Judged, request: ScoreRequest) -> tuple[Score, ...]:
        """What was judged, in the candidates' order."""
        best = judged.best or (None,) * len(judged.logprobs)
        if not len(judged.logprobs) == len(best) == len(request.candidates):
            raise ModelFailure(
                f"the server scored {len(judged.logprobs)} of {len(request.candidates)} candidates"
            )
        offsets = self._encoder.tokenizer.offsets
        return tuple(
            judged_score(own, most, candidate.text, partial(offsets, candidate, request.context))
            for own, most, candidate in zip(judged.logprobs, best, request.candidates, strict=True)
        )

    def _ingested(self, context: TokenizedContext, cached: int) -> Usage:
        tokens = len(context.ids)
        hit = min(cached, tokens)
        self._observer.ingested(hit=hit, miss=tokens - hit)
        return Usage(context_tokens=tokens, cached_tokens=hit)


def _bare(judged: Judged) -> Judged:
    return replace(judged, best=None)
