"""Replicas of an engine: alike after everything that is done with the first, or of no use."""

from __future__ import annotations

import asyncio
import pickle

import pytest
import torch

from model_service.backends.torch.backend import TorchBackend
from model_service.backends.torch.capability import CacheBudget, engine_for
from model_service.backends.torch.engine.engine import Step
from model_service.backends.torch.engine.packed import PackedEngine
from model_service.backends.torch.scheduler import BatchLimits, Scheduler
from model_service.backends.torch.tensor_parallel import mirror
from model_service.backends.torch.tensor_parallel.mirror import FollowerEngine, MirroredEngine, Turn
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from specfuse.errors import Unavailable
from tests.support import tiny_models
from tests.support.observers import RecordingObserver

NEVER = Deadline.never()
CANDIDATES = (Candidate(" Paris, then", finished=False), Candidate("", finished=True))


class Loopback:
    """A follower in this process, to which everything gets as if by a pipe."""

    def __init__(self, nbytes: int = 1 << 24) -> None:
        self.follower = FollowerEngine(packed(nbytes))
        self.turns: list[Turn] = []
        self.ended: list[str] = []

    @torch.inference_mode()
    def send(self, turn: Turn) -> None:
        if self.ended:
            raise BrokenPipeError
        self.turns.append(turn)
        self.follower.repeat(pickle.loads(pickle.dumps(turn)))

    def end(self) -> None:
        self.ended.append("end")

    def abandon(self) -> None:
        self.ended.append("abandon")


def packed(nbytes: int) -> PackedEngine:
    budget = CacheBudget(nbytes, lambda _bytes, _contexts: None)
    engine = engine_for(tiny_models.model("llama"), budget)
    assert isinstance(engine, PackedEngine)
    return engine


@pytest.mark.parametrize("nbytes", [1 << 24, 1 << 17])
async def test_a_replica_keeps_what_the_first_keeps(nbytes: int) -> None:
    first, follower = packed(nbytes), Loopback(nbytes)
    engine = MirroredEngine(first, follower)
    observer = RecordingObserver()
    scheduler = Scheduler(engine, BatchLimits(tokens=24, calls=4), observer)
    backend = TorchBackend("llama", tiny_models.loaded("llama"), engine, scheduler, observer)
    committed: tuple[str, ...] = ()
    for text in (" The capital", " of France is", " Paris, then"):
        committed += (text,)
        contexts = [Context(f"Question {number}?", committed) for number in range(3)]
        calls = [backend.propose(ProposeRequest(context, 6), NEVER) for context in contexts]
        calls += [backend.score(ScoreRequest(context, CANDIDATES), NEVER) for context in contexts]
        await asyncio.gather(*calls, return_exceptions=True)  # some find no memory, in both alike
    await backend.close()
    assert follower.ended == ["end"]
    engine._broken, follower.ended = False, []
    engine._send(())  # the last moves, which no forward pass followed
    assert not follower.follower.leases
    assert _kept(first) == _kept(follower.follower.engine)
    assert first._store.contexts > 0


def _kept(engine: PackedEngine) -> object:
    return [(node.ids, node.length, len(node.branches)) for node in engine._store._by_use]


@torch.inference_mode()
def test_moves_that_no_pass_follows_are_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MOST_MOVES", 4)
    follower = Loopback()
    engine = MirroredEngine(packed(1 << 24), follower)
    for _ in range(5):
        engine.open((1, 2, 3)).close()
    assert [len(turn.moves) for turn in follower.turns] == [4, 4]


@torch.inference_mode()
def test_a_store_that_is_not_alike_is_noticed() -> None:
    engine = MirroredEngine(packed(1 << 24), follower := Loopback())
    lease = follower.follower.engine.open((1, 2, 3))
    follower.follower.engine.run([Step(lease, ingest=3)])
    with pytest.raises(RuntimeError, match="no longer like"):
        engine.run([Step(engine.open((4, 5)), ingest=2)])


@torch.inference_mode()
def test_without_a_follower_everything_fails_at_once() -> None:
    engine = MirroredEngine(packed(1 << 24), follower := Loopback())
    lease = engine.open((1, 2, 3))
    follower.ended.append("died")
    with pytest.raises(Unavailable, match="must be restarted"):
        engine.run([Step(lease, ingest=3)])
    assert follower.ended == ["died", "abandon"]
    with pytest.raises(Unavailable):
        engine.open((1,))
    lease.close()
    engine.close()


@torch.inference_mode()
def test_a_failed_pass_ends_the_followers() -> None:
    engine = MirroredEngine(packed(1 << 24), follower := Loopback())
    lease = engine.open((1, 2, 3))
    engine._engine._model = None
    with pytest.raises(Unavailable):
        engine.run([Step(lease, ingest=3)])
    assert follower.ended == ["abandon"]
