"""More callers than a fuser takes, and callers that take what it says and never read it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from specfuse.client import AsyncClient
from specfuse.errors import Overloaded
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.robustness import questions
from tests.robustness.checker import check_calls
from tests.robustness.history import Answered, Failed, History
from tests.robustness.measured import Report
from tests.robustness.mesh import Mesh, Shape, running_mesh, scripted
from tests.robustness.nodes import PATIENCE_SECONDS, Node
from tests.robustness.process import Held, lets_go
from tests.robustness.traffic import ask

CALLERS = 200
MOST_IN_FLIGHT = 32
AT_ONCE_SECONDS = 5.0
"""A refusal comes without waiting for anybody; a busy machine may still take its time."""

MUTE_CALLERS = 64
LIMIT_SECONDS = 4.0
"""The fuser's own limit for an answer."""
DRAIN_SECONDS = 2.0
EXIT_SECONDS = 13.0
"""What the end of a process may take beyond its drain: what was cancelled unwinds, threads end."""

_SMALL_WINDOW = (("grpc.http2.bdp_probe", 0),)
"""Without probing its bandwidth a connection takes 64 KiB that nobody reads, and no more."""

MEMORY_BYTES = 48 * 2**20
"""More than this must not stay with a fuser after a burst of calls."""


async def test_200_callers_at_once_are_each_refused_at_once_or_answered_right(
    tmp_path: Path, report: Report
) -> None:
    shape = scripted(replicas={}, fusers=1, limits={"requests_in_flight": MOST_IN_FLIGHT})
    async with running_mesh(shape, tmp_path) as mesh:
        idle = Held.by(mesh.fusers[0].pid)
        history = await burst(mesh)
        assert check_calls(history, mesh.reference) == []
        refused = [end for end in history.ends if isinstance(end, Failed)]
        assert {end.error for end in refused} == {Overloaded.__name__}
        longest = max(map(history.seconds, refused))
        assert longest < AT_ONCE_SECONDS
        assert sum(isinstance(end, Answered) for end in history.ends) >= MOST_IN_FLIGHT

        after = await lets_go(mesh.fusers[0].pid, idle)
        kept = after.memory_bytes - idle.memory_bytes
        assert kept < MEMORY_BYTES
    report.numbers[f"{CALLERS} at once: refused"] = len(refused)
    report.numbers[f"{CALLERS} at once: longest until refused, seconds"] = longest
    report.numbers[f"{CALLERS} at once: memory kept afterwards, MiB"] = kept / 2**20


async def test_callers_that_never_read_keep_nobody_out_for_longer_than_the_limit(
    tmp_path: Path, report: Report
) -> None:
    async with running_mesh(one_that_says_much(), tmp_path) as mesh:
        (fuser,) = mesh.fusers
        async with AsyncClient(mesh.addresses) as honest:
            began = time.monotonic()
            async with never_reading(fuser):
                with pytest.raises(Overloaded):
                    await honest.generate(mesh.shape.questions[0], resume="never")
                await until_in_flight(fuser, 0)
                answer = await honest.generate(mesh.shape.questions[0], timeout=PATIENCE_SECONDS)
            assert answer.text == mesh.reference[mesh.shape.questions[0]]
            waited = time.monotonic() - began
            assert waited < LIMIT_SECONDS + AT_ONCE_SECONDS
    report.numbers[f"{MUTE_CALLERS} never read: until others are answered, seconds"] = waited


async def test_a_fuser_whose_callers_never_read_still_ends(tmp_path: Path, report: Report) -> None:
    async with running_mesh(one_that_says_much(), tmp_path) as mesh:
        (fuser,) = mesh.fusers
        async with never_reading(fuser):
            began = time.monotonic()
            fuser.signal(signal.SIGTERM)
            assert await fuser.ended() == 0
            took = time.monotonic() - began
            assert took < DRAIN_SECONDS + EXIT_SECONDS
    report.numbers[f"{MUTE_CALLERS} never read: from SIGTERM to the end, seconds"] = took


async def burst(mesh: Mesh) -> History:
    """What comes of as many callers as there are, each with a connection, asking at once."""
    history = History()
    question = mesh.shape.questions[0]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(mesh.addresses)) for _ in range(CALLERS)
        ]
        await asyncio.gather(
            *(ask(client, question, history, PATIENCE_SECONDS, "never") for client in clients)
        )
    return history


def one_that_says_much() -> Shape:
    """A fuser with one member, whose long answer fills a connection that nobody reads from."""
    return Shape(
        models={"alpha": questions.script("alpha")},
        ensemble={
            "members": ["alpha"],
            "segment_tokens": 64,
            "max_tokens": 2048,
            "request_timeout_seconds": LIMIT_SECONDS,
        },
        questions=questions.QUESTIONS[:1],
        fusers=1,
        fuser={
            "drain_seconds": DRAIN_SECONDS,
            "limits": {"requests_in_flight": MUTE_CALLERS},
        },
    )


@asynccontextmanager
async def never_reading(fuser: Node) -> AsyncIterator[None]:
    """Callers, each with a connection of its own, that ask for a long answer and never read it.

    It begins when all of them are being answered.
    """
    request = pb.GenerateRequest(raw_prompt=questions.LONG)
    async with AsyncExitStack() as stack:
        calls: list[grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]] = []
        for _ in range(MUTE_CALLERS):
            channel = grpc.aio.insecure_channel(fuser.address, _SMALL_WINDOW)
            await stack.enter_async_context(channel)
            calls.append(FuserServiceStub(channel).Generate(request))
        await until_in_flight(fuser, MUTE_CALLERS)
        yield


async def until_in_flight(fuser: Node, calls: int) -> None:
    """Returns when the fuser is answering so many calls."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await in_flight(fuser) != calls:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)


async def in_flight(fuser: Node) -> float:
    return (await fuser.metrics("specfuse_requests_in_flight"))[()]
