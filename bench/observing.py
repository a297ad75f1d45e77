"""Measures what numbers and traces cost the fuser: `python bench/observing.py`.

Three fusers over the same scripted members, asked the same in turns over gRPC: one that counts
nothing, one that counts as it always does, and one that sends traces as well, of one request in a
hundred, to a receiver in this process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import grpc
import grpc.aio
import psutil
import typer
import yaml
from fuser import Costs, Known, Shape, Subject, mesh_of, over_grpc, ratio, turn
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_service
from rich.console import Console
from rich.table import Table

from bench.report import show
from specfuse.cli.up import MeshOptions, with_mesh
from specfuse.client import AsyncClient
from specfuse.localmesh import MeshAddresses
from specfuse.localmesh.handshake import ServiceAddresses

SILENT_FUSER: Final = Path(__file__).with_name("silent_fuser.py")
SILENT: Final = "nothing"
COUNTS: Final = "numbers"
TRACES: Final = "numbers and traces"
SAMPLED: Final = 0.01
ALLOWED: Final = 0.05
"""What numbers and traces may cost, of the processor time of a round."""


class Receiver(trace_service.TraceServiceServicer):
    """Takes spans, and counts them."""

    def __init__(self) -> None:
        self.spans = 0

    async def Export(  # type: ignore[override]  # noqa: N802 (OTLP's name; asynchronous here)
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """As OTLP has it."""
        self.spans += sum(
            len(scope.spans)
            for resource in request.resource_spans
            for scope in resource.scope_spans
        )
        return trace_service_pb2.ExportTraceServiceResponse()


def settings_of(addresses: MeshAddresses, shape: Shape, receiver: str) -> dict[str, Any]:
    """A fuser's settings file; with traces if there is a receiver."""
    fuser = mesh_of(shape)["fuser"]
    members = {name: {"endpoints": [model.address]} for name, model in addresses.models.items()}
    tracing = {"tracing": {"endpoint": receiver, "sample_ratio": SAMPLED}} if receiver else {}
    ports = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    return fuser | ports | tracing | {"members": members}


@asynccontextmanager
async def fuser(settings: Path, *, silent: bool) -> AsyncIterator[tuple[str, int]]:
    """A fuser in a process of its own: its address, and the process's id."""
    reads, writes = os.pipe()
    usual = ("-m", "specfuse.cli", "fuser", "serve", settings, "--ready-fd", str(writes))
    arguments = (SILENT_FUSER, settings, str(writes)) if silent else usual
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, pass_fds=[writes])
    os.close(writes)
    with os.fdopen(reads, "rb") as ready:
        line = await asyncio.to_thread(ready.readline)
    try:
        yield ServiceAddresses.from_line(line).address, process.pid
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    """A receiver, and where it listens."""
    receiver, server = Receiver(), grpc.aio.server()
    trace_service.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield receiver, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def clock_of(pid: int) -> Callable[[], float]:
    """The processor time of a process."""
    process = psutil.Process(pid)

    def seconds() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    return seconds


async def measured(
    addresses: MeshAddresses, shape: Shape, callers: int, questions: int, repeats: int
) -> dict[str, Costs]:
    """The costs of a round by what is told; the fusers take turns."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver, address = await stack.enter_async_context(receiving())
        subjects: dict[str, Subject] = {}
        for name, silent, traces in (
            (SILENT, True, ""),
            (COUNTS, False, ""),
            (TRACES, False, address),
        ):
            file = directory / f"{len(subjects)}.yaml"
            settings = settings_of(addresses, shape, traces)
            file.write_text(yaml.safe_dump(settings), encoding="utf-8")
            where, pid = await stack.enter_async_context(fuser(file, silent=silent))
            client = await stack.enter_async_context(AsyncClient(where))
            known = await Known.of(client)
            subjects[name] = Subject(over_grpc(client, known.text), clock_of(pid), known.rounds)
        costs = {name: Costs() for name in subjects}
        for subject in subjects.values():
            await subject.ask()
        for _ in range(repeats):
            for name, subject in subjects.items():
                await turn(subject, callers, questions, costs[name])
    if not receiver.spans:
        Console(stderr=True).print("no span arrived: too few requests for one in a hundred")
    return costs


def table_of(costs: dict[str, Costs]) -> Table:
    """Medians, and the medians of the ratios within each turn."""
    title = "processor time of a round by what the fuser tells"
    table = Table("told", "ms a round", f"more than nothing (<= {ALLOWED:.0%})", title=title)
    for name, one in costs.items():
        more = ratio(one, costs[SILENT]) - 1
        table.add_row(name, f"{median(one.milliseconds):.2f}", f"{more:+.1%}")
    return table


def main(
    members: Annotated[int, typer.Option(min=1, max=20, help="Scripted members.")] = 5,
    callers: Annotated[int, typer.Option(min=1, help="At a time.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, max=4096, help="Of an answer.")] = 50,
    questions: Annotated[int, typer.Option(min=1, help="Of each caller, a turn.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 15,
) -> None:
    """Measure what numbers and traces cost the fuser."""
    shape = Shape(members, rounds)

    async def work(addresses: MeshAddresses) -> dict[str, Costs]:
        return await measured(addresses, shape, callers, questions, repeats)

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mesh.yaml"
        file.write_text(yaml.safe_dump(mesh_of(shape)), encoding="utf-8")
        costs = with_mesh(MeshOptions(file), work)
    show(table_of(costs))


if __name__ == "__main__":
    typer.run(main)
