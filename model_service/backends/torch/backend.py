"""The torch backend: the port `model_service.ports.Backend`, on an engine and its scheduler."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TypeVar

import torch
from opentelemetry.trace import Tracer

from model_service.backends.text.contexts import ContextEncoder
from model_service.backends.text.files import check_directory
from model_service.backends.text.lanes import Lanes
from model_service.backends.text.loading import give_back_memory
from model_service.backends.torch.calls import ProposeCall, ScoreCall
from model_service.backends.torch.capability import CacheBudget, engine_for
from model_service.backends.torch.engine.engine import Engine
from model_service.backends.torch.engine.linear import LEAST_BLOCKED_BYTES, lay_out_weights
from model_service.backends.torch.loading import LoadedModel, load
from model_service.backends.torch.scheduler import BatchLimits, Call, Scheduler
from model_service.backends.torch.settings import TorchSection
from model_service.backends.torch.spans import passes
from model_service.backends.torch.tensor_parallel.ranks import open_split, threads_of
from model_service.core.types import (
    Capabilities,
    ModelDescription,
    Proposal,
    ProposeRequest,
    ScoreRequest,
    Scores,
    Usage,
)
from model_service.ports import BackendHost, EngineObserver
from specfuse.deadline import Deadline
from specfuse.observability.tracing.spans import NO_TRACER

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

_CPU_BATCH_TOKENS = 256
_BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What an engine may use.

    `threads` is torch's number of CPU threads; None leaves it alone. `compiled` runs the model
    through `torch.compile`.
    """

    kv_cache_bytes: int
    batch: BatchLimits
    threads: int | None = None
    compiled: bool = False


class TorchBackend:
    """Serves one model. Calls are tokenized on worker threads and run by the scheduler."""

    def __init__(
        self,
        name: str,
        loaded: LoadedModel,
        engine: Engine,
        scheduler: Scheduler,
        observer: EngineObserver,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Takes over engine and scheduler: closing the backend closes them."""
        self._encoder = ContextEncoder(loaded.tokenizer, _window(loaded, engine))
        self._engine = engine
        self._scheduler = scheduler
        self._observer = observer
        self._tracer = tracer
        self._tokenizing = Lanes()
        self._model = ModelDescription(
            name=name,
            revision=loaded.revision,
            tokenizer_fingerprint=loaded.tokenizer.fingerprint,
            context_window=self._encoder.window,
            backend="torch",
            capabilities=Capabilities(
                tree_scoring=engine.scores_trees,
                own_scores=True,
                prefix_cache=engine.caches_prefixes,
                evidence=True,
            ),
        )

    @property
    def model(self) -> ModelDescription:
        """What is served."""
        return self._model

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        """Drafts the next segment."""
        call = await self._tokenizing.run(self._propose_call, request)
        proposal = await self._run(call, deadline)
        self._ingested(proposal.usage)
        return proposal

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        """Scores every candidate, teacher-forced."""
        call = await self._tokenizing.run(self._score_call, request)
        scores = await self._run(call, deadline)
        self._ingested(scores.usage)
        return scores

    async def close(self) -> None:
        """Stops the scheduler after the forward pass it is in. Idempotent."""
        await asyncio.to_thread(self._scheduler.close)
        await asyncio.to_thread(self._engine.close)
        self._tokenizing.close()

    async def _run(self, call: Call[Answer], deadline: Deadline) -> Answer:
        with passes(self._tracer) as noted:
            return await asyncio.wrap_future(self._scheduler.submit(call, deadline, noted))

    def _propose_call(self, request: ProposeRequest) -> ProposeCall:
        ids = self._encoder.context_ids(request.context, request.max_tokens)
        return ProposeCall(request, ids, self._encoder.tokenizer)

    def _score_call(self, request: ScoreRequest) -> ScoreCall:
        ids, branches = self._encoder.branches(request.context, request.candidates)
        offsets = self._encoder.offsets(request.context, request.candidates)
        return ScoreCall(request.candidates, ids, branches, offsets)

    def _ingested(self, usage: Usage) -> None:
        self._observer.ingested(
            hit=usage.cached_tokens, miss=usage.context_tokens - usage.cached_tokens
        )


async def open_backend(section: TorchSection, host: BackendHost) -> TorchBackend:
    """Loads the model, chooses its engine and starts the scheduler.

    `host.on_loss` is called if the model is split over processes and one of them ends by itself.

    Raises:
        Misconfigured: the model cannot be loaded as the settings say.
    """
    check_directory("torch.model", section.model)
    return await asyncio.to_thread(_opened, section, host)


def _opened(section: TorchSection, host: BackendHost) -> TorchBackend:
    if section.tensor_parallel == 1:
        loaded = load(section)
        limits = _limits(section, loaded)
        return backend_for(host.name, loaded, limits, host.observer, host.tracer)
    _set_threads(threads_of(section))
    budget = _budget(section.kv_cache_bytes, host.observer)
    loaded, engine = open_split(section, budget, host.on_loss)
    limits = _limits(section, loaded)
    scheduler = Scheduler(engine, limits.batch, host.observer, threads=limits.threads)
    return TorchBackend(host.name, loaded, engine, scheduler, host.observer, host.tracer)


def backend_for(
    name: str,
    loaded: LoadedModel,
    limits: EngineLimits,
    observer: EngineObserver,
    tracer: Tracer = NO_TRACER,
) -> TorchBackend:
    """Chooses the engine of a loaded model and starts the scheduler.

    Raises:
        Misconfigured: no engine can run the model.
    """
    _set_threads(limits.threads)
    lay_out_weights(loaded.model, None if limits.compiled else LEAST_BLOCKED_BYTES)
    budget = _budget(limits.kv_cache_bytes, observer)
    engine = engine_for(loaded.model, budget, compiled=limits.compiled)
    give_back_memory()
    scheduler = Scheduler(engine, limits.batch, observer, threads=limits.threads)
    return TorchBackend(name, loaded, engine, scheduler, observer, tracer)


def _window(loaded: LoadedModel, engine: Engine) -> int:
    """A longer context could never be served, however idle the service is."""
    most = engine.longest_context
    if most is None or most >= loaded.window:
        return loaded.window
    logger.warning(
        "torch.kv_cache_bytes holds contexts of %d tokens, not the model's %d: longer ones are "
        "refused; give it more, or set torch.max_context_tokens",
        most,
        loaded.window,
    )
    return most


def _limits(settings: TorchSection, loaded: LoadedModel) -> EngineLimits:
    usual_tokens = _CPU_BATCH_TOKENS if loaded.model.device.type == "cpu" else _BATCH_TOKENS
    return EngineLimits(
        kv_cache_bytes=settings.kv_cache_bytes,
        batch=BatchLimits(settings.max_batch_tokens or usual_tokens, settings.max_running_calls),
        threads=threads_of(settings),
        compiled=settings.compile,
    )


def _budget(nbytes: int, observer: EngineObserver) -> CacheBudget:
    def report(used_bytes: int, contexts: int) -> None:
        observer.cache(used_bytes=used_bytes, budget_bytes=nbytes, sessions=contexts)

    return CacheBudget(nbytes, report)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
