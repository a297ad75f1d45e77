"""The torch backend: the port `model_service.ports.Backend`, on an engine and its lane."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from model_service.backends.torch.calls import ProposeCall, ScoreCall
from model_service.backends.torch.capability import CacheBudget, engine_for
from model_service.backends.torch.lane import BatchLimits, Lane
from model_service.backends.torch.loading import load
from model_service.backends.torch.products import speed_up_few_rows
from model_service.backends.torch.ranks import open_split, threads_of
from model_service.core.types import Capabilities, ModelDescription
from specfuse.errors import ContextTooLong, InvalidArgument, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Callable

    from model_service.backends.torch.engine import Engine, TokenIds
    from model_service.backends.torch.loading import LoadedModel
    from model_service.core.types import (
        Candidate,
        Context,
        Proposal,
        ProposeRequest,
        ScoreRequest,
        Scores,
        Usage,
    )
    from model_service.ports import BackendObserver
    from model_service.settings import TorchSettings
    from specfuse.rpc.deadline import Deadline

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Call = TypeVar("Call")

_CPU_BATCH_TOKENS = 256
_BATCH_TOKENS = 2048
_TOKENIZING_THREADS = 4


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
    """Serves one model. Calls are tokenized on worker threads and run by the lane."""

    def __init__(
        self, name: str, loaded: LoadedModel, engine: Engine, lane: Lane, observer: BackendObserver
    ) -> None:
        """Takes over engine and lane: closing the backend closes them."""
        self._tokenizer = loaded.tokenizer
        self._window = _window(loaded, engine)
        self._engine = engine
        self._lane = lane
        self._observer = observer
        self._tokenizing = ThreadPoolExecutor(_TOKENIZING_THREADS, "tokenizer")
        self._model = ModelDescription(
            name=name,
            revision=loaded.revision,
            tokenizer_fingerprint=loaded.tokenizer.fingerprint,
            context_window=self._window,
            backend="torch",
            capabilities=Capabilities(
                tree_scoring=engine.scores_trees,
                own_scores=True,
                prefix_cache=engine.caches_prefixes,
            ),
        )

    @property
    def model(self) -> ModelDescription:
        """What is served."""
        return self._model

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        """Drafts the next segment."""
        call = await self._tokenized(self._propose_call, request)
        proposal = await asyncio.wrap_future(self._lane.submit(call, deadline))
        self._ingested(proposal.usage)
        return proposal

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        """Scores every candidate, teacher-forced."""
        call = await self._tokenized(self._score_call, request)
        scores = await asyncio.wrap_future(self._lane.submit(call, deadline))
        self._ingested(scores.usage)
        return scores

    async def close(self) -> None:
        """Stops the lane after the forward pass it is in. Idempotent."""
        await asyncio.to_thread(self._lane.close)
        await asyncio.to_thread(self._engine.close)
        self._tokenizing.shutdown(wait=False)

    async def _tokenized(self, make: Callable[[Request], Call], request: Request) -> Call:
        """Makes a call on threads kept for that, so that long prompts hold up nothing else."""
        try:
            future = self._tokenizing.submit(make, request)
        except RuntimeError as error:  # no longer takes work
            raise ShuttingDown("the engine is closed") from error
        return await asyncio.wrap_future(future)

    def _propose_call(self, request: ProposeRequest) -> ProposeCall:
        ids = self._context_ids(request.context)
        self._check_window(len(ids) + request.max_tokens)
        return ProposeCall(request, ids, self._tokenizer)

    def _score_call(self, request: ScoreRequest) -> ScoreCall:
        if not request.candidates:
            raise InvalidArgument("candidates", "there are none; at least 1 is needed")
        ids = self._context_ids(request.context)
        branches = tuple(
            self._candidate_ids(index, candidate, request.context)
            for index, candidate in enumerate(request.candidates)
        )
        self._check_window(len(ids) + max(map(len, branches)))
        return ScoreCall(request.candidates, ids, branches)

    def _context_ids(self, context: Context) -> TokenIds:
        ids = self._tokenizer.context_ids(context)
        if not ids:
            raise InvalidArgument("context", "it encodes to no tokens for this model; 1 is needed")
        return ids

    def _candidate_ids(self, index: int, candidate: Candidate, context: Context) -> TokenIds:
        ids = self._tokenizer.segment_ids(candidate.text, context)
        if not ids and (candidate.text or not candidate.finished):
            raise InvalidArgument(
                f"candidates[{index}].text", "it encodes to no tokens for this model; 1 is needed"
            )
        return (*ids, self._tokenizer.end_ids[0]) if candidate.finished else ids

    def _check_window(self, tokens: int) -> None:
        if tokens > self._window:
            raise ContextTooLong(tokens=tokens, window=self._window)

    def _ingested(self, usage: Usage) -> None:
        self._observer.ingested(
            hit=usage.cached_tokens, miss=usage.context_tokens - usage.cached_tokens
        )


def open_backend(
    name: str,
    settings: TorchSettings,
    observer: BackendObserver,
    on_loss: Callable[[], None] = lambda: None,
) -> TorchBackend:
    """Loads the model, chooses its engine and starts the lane. Blocks while the weights are read.

    `on_loss` is called if the model is split over processes and one of them ends by itself; from
    then on every call fails.

    Raises:
        Misconfigured: the model cannot be loaded as the settings say.
    """
    if settings.tensor_parallel == 1:
        loaded = load(settings)
        return backend_for(name, loaded, _limits(settings, loaded), observer)
    _set_threads(threads_of(settings))
    budget = _budget(settings.kv_cache_bytes, observer)
    loaded, engine = open_split(settings, budget, on_loss)
    limits = _limits(settings, loaded)
    lane = Lane(engine, limits.batch, observer, threads=limits.threads)
    return TorchBackend(name, loaded, engine, lane, observer)


def backend_for(
    name: str, loaded: LoadedModel, limits: EngineLimits, observer: BackendObserver
) -> TorchBackend:
    """Chooses the engine of a loaded model and starts the lane.

    Raises:
        Misconfigured: no engine can run the model.
    """
    _set_threads(limits.threads)
    if not limits.compiled:  # torch.compile cannot read the packed weights
        speed_up_few_rows(loaded.model)
    budget = _budget(limits.kv_cache_bytes, observer)
    engine = engine_for(loaded.model, budget, compiled=limits.compiled)
    lane = Lane(engine, limits.batch, observer, threads=limits.threads)
    return TorchBackend(name, loaded, engine, lane, observer)


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


def _limits(settings: TorchSettings, loaded: LoadedModel) -> EngineLimits:
    usual_tokens = _CPU_BATCH_TOKENS if loaded.model.device.type == "cpu" else _BATCH_TOKENS
    return EngineLimits(
        kv_cache_bytes=settings.kv_cache_bytes,
        batch=BatchLimits(settings.max_batch_tokens or usual_tokens, settings.max_running_calls),
        threads=threads_of(settings),
        compiled=settings.compile,
    )


def _budget(nbytes: int, observer: BackendObserver) -> CacheBudget:
    def report(used_bytes: int, contexts: int) -> None:
        observer.cache(used_bytes=used_bytes, budget_bytes=nbytes, sessions=contexts)

    return CacheBudget(nbytes, report)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
