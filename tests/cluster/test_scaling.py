"""Where sessions are, while models and fusers are scaled."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from specfuse.client import Answer, AsyncClient
from tests.cluster.api import Object
from tests.cluster.counted import Report
from tests.cluster.judging import under_load
from tests.cluster.mesh import (
    LINGER_SECONDS,
    SLOW,
    SLOW_ANSWER,
    Mesh,
    live_sessions,
)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

SESSIONS = 8
ANSWER_SECONDS = 120.0


async def test_sessions_stay_where_they_began_and_are_finished_there(
    mesh: Mesh, report: Report
) -> None:
    pods = await fresh_pods(mesh)
    asking = await begin_sessions(mesh)
    began = await sessions_of(pods)
    assert sum(began.values()) == SESSIONS  # each is at one pod
    busy = max(began, key=began.__getitem__)

    await scale_down(mesh, SLOW, busy)
    asking += await begin_sessions(mesh, 2)
    for answer in await asyncio.gather(*asking):
        assert answer.text == SLOW_ANSWER
        assert not answer.degraded
    now = await sessions_of(pods)
    finished = began.pop(busy)
    assert now.pop(busy) == finished
    assert list(now.values()) == [sessions + 2 for sessions in began.values()]

    since = time.monotonic()
    await mesh.until_pods_are(slow=1)
    assert time.monotonic() - since < LINGER_SECONDS  # nobody was left to wait for
    report.numbers["scaled down: sessions finished where they were"] = finished
    await mesh.scale(SLOW, 2)


async def test_sessions_of_a_pod_that_is_gone_move_to_another(mesh: Mesh, report: Report) -> None:
    pods = await fresh_pods(mesh)
    asking = await begin_sessions(mesh)
    before = await sessions_of(pods)
    assert sum(before.values()) == SESSIONS
    busy = max(before, key=before.__getitem__)
    await mesh.cluster.api.delete("pods", busy, mesh.namespace, grace=0)
    for answer in await asyncio.gather(*asking):
        assert answer.text == SLOW_ANSWER
        assert not answer.degraded
    others = [pod for pod in pods if pod["metadata"]["name"] != busy]
    assert sum((await sessions_of(others)).values()) == SESSIONS
    report.numbers["a pod gone: sessions that moved to another"] = before[busy]


async def test_models_and_fusers_are_scaled_up_and_down_under_load(
    mesh: Mesh, report: Report
) -> None:
    async with under_load("scaled up and down", mesh, report):
        for part, replicas in (("alpha", 3), ("fuser", 3), ("alpha", 1), ("fuser", 1)):
            await mesh.scale(part, replicas)
            await mesh.release.until_available()
            await mesh.until_pods_are(**{part: replicas})
    assert report.rows[-1].degraded == 0
    await mesh.scale("alpha", 2)
    await mesh.scale("fuser", 2)


async def fresh_pods(mesh: Mesh) -> list[Object]:
    """New pods of the slow member, which have no sessions yet."""
    await mesh.scale(SLOW, 0)
    await mesh.until_pods_are(slow=0)
    await mesh.scale(SLOW, 2)
    await mesh.is_whole()
    return await mesh.pods(SLOW)


async def begin_sessions(mesh: Mesh, count: int = SESSIONS) -> list[asyncio.Task[Answer]]:
    """Asks so many slow questions; returns when each has its first segment."""
    (address,) = await mesh.addresses()
    began = [asyncio.Event() for _ in range(count)]
    asking = [asyncio.create_task(ask_slowly(address, one)) for one in began]
    async with asyncio.timeout(ANSWER_SECONDS):
        await asyncio.gather(*(one.wait() for one in began))
    return asking


async def ask_slowly(address: str, began: asyncio.Event) -> Answer:
    events = []
    session = uuid.uuid4().hex
    async with AsyncClient(address) as client:
        stream = client.stream(
            "Tell me.", ensemble=SLOW, timeout=ANSWER_SECONDS, session_id=session
        )
        async for event in stream:
            events.append(event)
            if len(events) > 1:
                began.set()
    return Answer.of(events)


async def sessions_of(pods: list[Object]) -> dict[str, int]:
    """How many sessions each of these pods was asked about lately, by its name."""
    return {pod["metadata"]["name"]: await live_sessions(pod) for pod in pods}


async def scale_down(mesh: Mesh, part: str, pod: str) -> None:
    """Has a part one pod less: this one. Returns when it is ending."""
    api, namespace = mesh.cluster.api, mesh.namespace
    cheap = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}}
    await api.merge("pods", pod, cheap, namespace)
    await mesh.scale(part, len(await mesh.pods(part)) - 1)
    await api.until(
        "pods",
        lambda there: "deletionTimestamp" in there[f"{namespace}/{pod}"]["metadata"],
        namespace,
    )
