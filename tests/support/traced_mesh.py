"""A real mesh whose spans a real receiver gets, and what was asked of it: fates of requests.

Each fate is a request with a trace of its own, which the test began: by its id, spans are found
again.
"""

from __future__ import annotations

import asyncio
import re
import signal
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from specfuse.demo.experts import EXPERTS
from specfuse.localmesh import ServiceAddresses
from specfuse.rpc.channels import open_channel
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.command import RunningMesh, metrics_of, running_mesh
from tests.support.otlp_receiver import Received, open_receiver
from tests.support.scripted_mesh import write_mesh

PATIENCE_SECONDS: Final = 120.0
PROMPT_MARK: Final = "Xyzzy"
"""In every prompt."""
ANSWER_MARK: Final = "Plugh"
"""In every answer."""
HANG: Final = "hang"
"""A prompt with this has the member `stuck` never answer once a segment is committed."""

EXPERT: Final = EXPERTS[0].name
FATES: Final = {
    name: f"{number:032x}"
    for number, name in enumerate(
        ("answered", "answered over HTTP", "left", "left over HTTP", "straggled", "killed"), 1
    )
}
"""The ids of traces, by what becomes of the request."""
CALLER: Final = "00000000000000ca"
"""The span of whoever asks, in all of them."""


@dataclass(frozen=True)
class Told:
    """All that the mesh said of what it did."""

    spans: tuple[Received, ...]
    metrics: str
    """The fuser's, as Prometheus is told them that asks for exemplars."""
    answer: str
    """What was answered over gRPC."""

    def of(self, fate: str) -> list[Received]:
        """The spans of a request, in order of their begin."""
        found = [one for one in self.spans if one.trace_id == FATES[fate]]
        return sorted(found, key=lambda one: one.span.start_time_unix_nano)


async def told_by_a_mesh(directory: Path) -> Told:
    """Has requests meet their fates in a mesh, ends it in good order, and returns what it told."""
    async with open_receiver() as receiver:
        file = write_mesh(directory, _mesh(receiver.address))
        async with _running(file) as mesh:
            asking = _Asking(mesh)
            answer = await asking.is_answered("answered")
            metrics = await asyncio.to_thread(_open_metrics, mesh.fuser)
            await asking.is_answered_over_http()
            await asking.leaves()
            await asking.leaves_over_http()
            await asking.is_answered("straggled", ensemble="impatient", prompt=HANG)
            await asking.has_a_member_killed()
            code, _, stderr = await asyncio.to_thread(mesh.up.end, signal.SIGINT)
            assert code == 0, stderr
    return Told(tuple(receiver.spans), metrics, answer)


def _mesh(receiver: str) -> dict[str, Any]:
    answer = f"The word is {ANSWER_MARK} here and there, as {ANSWER_MARK} is where it should be."
    says = {"answer": answer}
    hangs = {"when": HANG, "after_segments": 1, "hangs": True}
    members = {
        "quick": [says],
        "other": [says],
        "stuck": [hangs, says],
        "doomed": [hangs, says],
    }
    models = {
        name: {"backend": "scripted", "scripted": {"lines": lines}}
        for name, lines in members.items()
    }
    expert = {"model": str(EXPERTS[0].path), "local_files_only": True, "threads": 1}
    models[EXPERT] = {"torch": expert}
    patient = {
        "segment_tokens": 4,
        "exit": {"policy": "none"},
        "straggler_grace_seconds": PATIENCE_SECONDS,
        "round_timeout_seconds": PATIENCE_SECONDS,
        "request_timeout_seconds": 2 * PATIENCE_SECONDS,
    }
    ensembles = {
        "all": patient | {"members": ["quick", "other", EXPERT]},
        "lasting": patient | {"members": ["quick", "stuck"], "quorum": 1},
        "impatient": patient | {"members": ["quick", "stuck"], "quorum": 1}
        | {"straggler_grace_seconds": 1.0},
        "risky": patient | {"members": ["quick", "doomed"], "quorum": 1},
    }  # fmt: skip
    tracing = {"endpoint": receiver, "sample_ratio": 1.0}
    return {"models": models, "fuser": {"ensembles": ensembles}, "tracing": tracing}


@asynccontextmanager
async def _running(file: Path) -> AsyncIterator[RunningMesh]:
    """The mesh, started and ended on threads: the receiver needs this one."""
    stack = ExitStack()
    mesh = await asyncio.to_thread(stack.enter_context, running_mesh(str(file)))
    try:
        yield mesh
    finally:
        await asyncio.to_thread(stack.close)


class _Asking:
    """Asks a mesh, as somebody whose trace it is."""

    def __init__(self, mesh: RunningMesh) -> None:
        self._mesh = mesh

    async def is_answered(self, fate: str, ensemble: str = "all", prompt: str = "") -> str:
        async with open_channel(self._mesh.address) as channel:
            responses = [one async for one in self._call(channel, fate, ensemble, prompt)]
        assert responses[-1].WhichOneof("event") == "finished"
        return "".join(one.segment_committed.text for one in responses)

    async def is_answered_over_http(self) -> None:
        async with self._http() as http:
            response = await http.post(
                "/v1/chat/completions", json=_body("all"), headers=_trace("answered over HTTP")
            )
        assert response.status_code == httpx2.codes.OK, response.text

    async def leaves(self) -> None:
        async with open_channel(self._mesh.address) as channel:
            call = self._call(channel, "left", "lasting", HANG)
            await _first_segment(call)
            await self._works_on_a_call("stuck")
            call.cancel()
            await self._works_on_a_call("stuck", calls=0)

    async def leaves_over_http(self) -> None:
        async with self._http() as http:
            headers = _trace("left over HTTP")
            body = _body("lasting", HANG) | {"stream": True}
            async with http.stream(
                "POST", "/v1/chat/completions", json=body, headers=headers
            ) as response:
                assert response.status_code == httpx2.codes.OK
                lines = response.aiter_lines()  # kept, as what is dropped is closed
                while '"content":' not in await anext(lines):
                    pass
                await self._works_on_a_call("stuck")
        await self._works_on_a_call("stuck", calls=0)

    async def has_a_member_killed(self) -> None:
        async with open_channel(self._mesh.address) as channel:
            call = self._call(channel, "killed", "risky", HANG)
            await _first_segment(call)
            await self._works_on_a_call("doomed")
            await asyncio.to_thread(self._mesh.kill, "doomed")
            responses = [one async for one in call]
        assert responses[-1].WhichOneof("event") == "finished"

    def _call(self, channel: Any, fate: str, ensemble: str, prompt: str) -> Any:
        request = pb.GenerateRequest(
            ensemble=ensemble, raw_prompt=f"{PROMPT_MARK} {prompt}", max_tokens=16
        )
        metadata = tuple(_trace(fate).items())
        stub = FuserServiceStub(channel)
        return stub.Generate(request, timeout=2 * PATIENCE_SECONDS, metadata=metadata)

    def _http(self) -> httpx2.AsyncClient:
        url = f"http://{self._mesh.fuser.http_address}"
        return httpx2.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False)

    async def _works_on_a_call(self, member: str, calls: int = 1) -> None:
        """Returns once a member works on so many calls."""
        running = re.compile(rf"^specfuse_model_requests_running\{{.*\}} {calls}\.0$", re.MULTILINE)
        at = self._mesh.models[member]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not running.search(  # noqa: ASYNC110 (behind a socket)
                await asyncio.to_thread(metrics_of, at)
            ):
                await asyncio.sleep(0.02)


async def _first_segment(call: Any) -> None:
    """Returns once a segment is committed: what hangs from then on is the next round."""
    async for response in call:
        if response.WhichOneof("event") == "segment_committed":
            return


def _trace(fate: str) -> dict[str, str]:
    return {"traceparent": f"00-{FATES[fate]}-{CALLER}-01"}


def _body(ensemble: str, prompt: str = "") -> Mapping[str, Any]:
    messages = [{"role": "user", "content": f"{PROMPT_MARK} {prompt}"}]
    return {"model": ensemble, "messages": messages, "max_tokens": 16}


def _open_metrics(fuser: ServiceAddresses) -> str:
    request = urllib.request.Request(
        f"http://{fuser.metrics_address}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        text: str = response.read().decode()
        return text
