"""Which engine a model gets: by what it does, and only if the engine gives the model's numbers."""

from __future__ import annotations

import logging
from shutil import which

import pytest
import torch
from transformers import PreTrainedModel

from model_service.backends.torch.backend import EngineLimits, backend_for
from model_service.backends.torch.capability import CacheBudget, engine_for
from model_service.backends.torch.engine.copies import CopiesEngine
from model_service.backends.torch.engine.engine import Engine
from model_service.backends.torch.engine.packed import PackedEngine
from model_service.backends.torch.scheduler import BatchLimits
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured
from tests.support import tiny_models
from tests.support.observers import RecordingObserver
from tests.support.torch_serving import assert_plain, generated, plainly_scored


def chosen(model: PreTrainedModel) -> Engine:
    return engine_for(model, CacheBudget(1 << 24, lambda _bytes, _contexts: None))


@pytest.mark.parametrize("architecture", tiny_models.PACKED)
def test_plain_attention_runs_packed(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(chosen(tiny_models.model(architecture)), PackedEngine)
    assert not caplog.records


@pytest.mark.parametrize("architecture", tiny_models.COPIED)
def test_others_run_on_copies_and_that_is_logged_once(
    architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "model_service"):
        engine = chosen(tiny_models.model(architecture))
    assert isinstance(engine, CopiesEngine)
    assert engine.caches_prefixes
    ours = [record for record in caplog.records if record.name.startswith("model_service")]
    assert [record.message.split(",")[0] for record in ours] == ["scoring on cache copies"]


def test_layers_that_look_back_in_another_way_than_said_are_noticed() -> None:
    model = tiny_models.model("mistral")
    model.config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    assert isinstance(chosen(model), CopiesEngine)


def _forgetful(model: PreTrainedModel) -> PreTrainedModel:
    """A model whose caches hold nothing, and that has no attention to replace."""
    plain = model.forward

    def forward(*args: object, **kwargs: object) -> object:
        if kwargs.get("past_key_values") is not None:
            kwargs["past_key_values"] = None
        return plain(*args, **kwargs)

    model.forward = forward
    return model


def test_caches_that_lie_are_not_used() -> None:
    engine = chosen(_forgetful(tiny_models.model("bloom")))
    assert isinstance(engine, CopiesEngine)
    assert not engine.caches_prefixes


async def test_without_caches_the_answers_are_the_same() -> None:
    loaded = tiny_models.loaded("bloom")
    _forgetful(loaded.model)
    limits = EngineLimits(1 << 24, BatchLimits(tokens=24, calls=4))
    backend = backend_for("bloom", loaded, limits, RecordingObserver())
    context, never = Context("Question: why?", (" The capital",)), Deadline.never()
    candidates = (Candidate(" Paris", finished=True), Candidate(" of France", finished=False))
    try:
        proposal = await backend.propose(ProposeRequest(context, 6), never)
        scores = await backend.score(ScoreRequest(context, candidates), never)
    finally:
        await backend.close()
    assert not backend.model.capabilities.prefix_cache
    assert not backend.model.capabilities.tree_scoring
    assert proposal.text == generated(backend, "bloom", context, 6)
    for found, candidate in zip(scores.scores, candidates, strict=True):
        assert_plain(found, plainly_scored(backend, "bloom", context, candidate))


def test_a_model_that_never_says_the_same_twice_is_refused() -> None:
    model = tiny_models.model("bloom")
    head = model.lm_head.forward
    model.lm_head.forward = lambda hidden: (
        head(hidden) + torch.randn(1)[0] * torch.rand_like(head(hidden))
    )
    with pytest.raises(Misconfigured, match=r"log-probabilities differ by .* from the model.s own"):
        chosen(model)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, as it compiles
async def test_compiled_answers_are_the_same() -> None:
    limits = EngineLimits(1 << 24, BatchLimits(tokens=64, calls=4), threads=1, compiled=True)
    backend = backend_for("gemma2", tiny_models.loaded("gemma2"), limits, RecordingObserver())
    context, never = Context("Question: why?", (" The capital",)), Deadline.never()
    candidate = Candidate(" of France is Paris", finished=True)
    try:
        proposal = await backend.propose(ProposeRequest(context, 9), never)
        scores = await backend.score(ScoreRequest(context, (candidate,)), never)
        implementation = backend._scheduler._engine._model.config._attn_implementation
    finally:
        await backend.close()
    assert implementation == "specfuse_compiled"
    assert proposal.text == generated(backend, "gemma2", context, 9)
    assert_plain(scores.scores[0], plainly_scored(backend, "gemma2", context, candidate))
