"""The processes that a model is split over: this one, rank 0, and the followers that it starts.

transformers splits the layers by the model's own plan: each rank has some of the heads and some of
the rows or columns of every matrix, and sums cross from rank to rank within a forward pass. Every
rank loads its part, chooses its engine by the same passes, and then the followers repeat what rank
0 does, as told over pipes.

Followers end when rank 0 closes their pipe, or at once when its process is gone.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import torch
from torch import distributed

from model_service.backends.torch.capability import CacheBudget, engine_for
from model_service.backends.torch.engine.packed import PackedEngine
from model_service.backends.torch.loading import LoadedModel, check_divisible, load
from model_service.backends.torch.settings import TorchSection
from model_service.backends.torch.tensor_parallel.mirror import FollowerEngine, MirroredEngine, Turn
from specfuse.errors import Misconfigured

logger = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(minutes=30)
"""For another rank: to read its weights, or to come to the same point of a forward pass."""
_ENDING_SECONDS = 5.0


def open_split(
    settings: TorchSection, budget: CacheBudget, on_loss: Callable[[], None]
) -> tuple[LoadedModel, MirroredEngine]:
    """Loads a model over `settings.tensor_parallel` processes. Blocks while the weights are read.

    `on_loss` is called, from a thread of its own, if a process ends before the engine is closed;
    the engine is unusable then. It is not called before this returns.

    Raises:
        Misconfigured: the model cannot be split, or not as the settings say.
    """
    check_divisible(settings)
    ranks = Ranks(settings)
    try:
        loaded, engine = _first(settings, budget, ranks)
    except BaseException:
        ranks.abandon()
        ranks.end()
        raise
    ranks.watch(on_loss)
    return loaded, MirroredEngine(engine, ranks)


def threads_of(settings: TorchSection) -> int | None:
    """CPU threads of each rank: by default, ranks share what torch would use."""
    if settings.threads is not None or settings.tensor_parallel == 1:
        return settings.threads
    return max(1, torch.get_num_threads() // settings.tensor_parallel)


def _first(
    settings: TorchSection, budget: CacheBudget, ranks: Ranks
) -> tuple[LoadedModel, PackedEngine]:
    """Rank 0's part of loading, which waits for the others before it needs them."""
    ranks.await_all()
    _meet(settings, ranks.meeting, 0)
    loaded = load(settings)
    ranks.await_all()
    engine = _engine(loaded, budget)
    ranks.await_all()
    return loaded, engine


def _meet(settings: TorchSection, meeting: Path, rank: int) -> None:
    """Waits, by way of a file, until all ranks are there; then each can reach the others."""
    cuda = torch.cuda.is_available()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=settings.tensor_parallel,
        timeout=_LONGEST_WAIT,
        device_id=torch.device("cuda", rank) if cuda else None,
    )


def _engine(loaded: LoadedModel, budget: CacheBudget) -> PackedEngine:
    engine = engine_for(loaded.model, budget)
    if not isinstance(engine, PackedEngine):
        raise Misconfigured(
            "torch.tensor_parallel: this model can only be run on copies of its cache, "
            "which is not done in several processes; use 1"
        )
    return engine


@dataclass(frozen=True, slots=True)
class _Follower:
    process: SpawnProcess
    link: Connection[object, object]


class Ranks:
    """The followers, as rank 0 sees them."""

    def __init__(self, settings: TorchSection) -> None:
        """Starts them."""
        self._directory = TemporaryDirectory(prefix="specfuse-")
        self._ending = False
        self._followers = tuple(
            _started(rank, settings, self.meeting) for rank in range(1, settings.tensor_parallel)
        )

    @property
    def meeting(self) -> Path:
        """A file by which all ranks find each other."""
        return Path(self._directory.name) / "ranks"

    @property
    def pids(self) -> tuple[int | None, ...]:
        """The process ids, of rank 1 first."""
        return tuple(follower.process.pid for follower in self._followers)

    def await_all(self) -> None:
        """Waits until each has completed its next stage of loading.

        Raises:
            Misconfigured: what one raised, or one is gone.
        """
        for rank, follower in enumerate(self._followers, 1):
            try:
                word = follower.link.recv()
            except (EOFError, OSError) as error:
                raise Misconfigured(
                    f"torch.tensor_parallel: the process of rank {rank} ended while it loaded the "
                    "model; what it wrote last says why"
                ) from error
            if isinstance(word, Misconfigured):
                raise word

    def watch(self, on_loss: Callable[[], None]) -> None:
        """From now on calls `on_loss` if one ends by itself."""
        Thread(target=self._watch, args=(on_loss,), name="torch-ranks", daemon=True).start()

    def send(self, turn: Turn) -> None:
        """Has every one of them repeat a turn.

        Raises:
            OSError: one is gone.
        """
        for follower in self._followers:
            follower.link.send(turn)

    def end(self) -> None:
        """Ends them, and the connections between the ranks. Idempotent."""
        if self._ending:
            return
        self._ending = True
        for follower in self._followers:
            follower.link.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for follower in self._followers:
            follower.process.join(_ENDING_SECONDS)
        self.abandon()
        self._directory.cleanup()

    def abandon(self) -> None:
        """Ends them at once, whatever they are doing."""
        for follower in self._followers:
            follower.process.kill()
            follower.process.join()

    def _watch(self, on_loss: Callable[[], None]) -> None:
        wait([follower.process.sentinel for follower in self._followers])
        if not self._ending:
            logger.error("a process that the model is split over ended")
            on_loss()


def _started(rank: int, settings: TorchSection, meeting: Path) -> _Follower:
    context = get_context("spawn")  # a fork would inherit the locks of this process's threads
    link, other_end = context.Pipe()
    process = context.Process(
        target=_follow,
        args=(rank, settings, meeting, other_end),
        name=f"rank {rank}",
        daemon=True,
    )
    process.start()
    other_end.close()
    return _Follower(process, link)


def _follow(
    rank: int, settings: TorchSection, meeting: Path, link: Connection[object, Turn]
) -> None:
    """A follower's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 gets it too, and ends its followers
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["LOCAL_RANK"] = str(rank)  # transformers picks a device by it
    link.send(None)
    try:
        engine = _loaded(rank, settings, meeting, link)
    except Misconfigured as error:
        link.send(error)
        return
    _repeat_all(FollowerEngine(engine), link)
    distributed.destroy_process_group()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _loaded(
    rank: int, settings: TorchSection, meeting: Path, link: Connection[object, Turn]
) -> PackedEngine:
    """A follower's part of loading; it tells rank 0 of each stage it has come to."""
    threads = threads_of(settings)
    if threads is not None:
        torch.set_num_threads(threads)
    _meet(settings, meeting, rank)
    loaded = load(settings)
    link.send(None)
    engine = _engine(loaded, CacheBudget(settings.kv_cache_bytes, lambda _bytes, _contexts: None))
    link.send(None)
    return engine


@torch.inference_mode()
def _repeat_all(follower: FollowerEngine, link: Connection[object, Turn]) -> None:
    """Repeats turns until rank 0 closes the link."""
    while True:
        try:
            turn = link.recv()
        except EOFError:
            return
        follower.repeat(turn)
