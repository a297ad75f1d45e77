"""Measures what a round costs the fuser: `python bench/fuser.py`.

The processor time of a fuser's own process over each of its doors, for the same questions to the
same scripted members, in turns: gRPC's `Generate`, and a stream of `/v1/chat/completions`. Members
are processes of their own and take no time to think, so what is left is the fuser.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx2
import psutil
import typer
import yaml
from rich.console import Console
from rich.table import Table

from specfuse.cli.up import MeshOptions, with_mesh
from specfuse.client import AsyncClient
from specfuse.localmesh import MeshAddresses

WORDS_A_SEGMENT = 4
ROUNDS = 50
ANSWER = " ".join(f"word{number}" for number in range(WORDS_A_SEGMENT * ROUNDS))
QUESTION = "What is the answer?"
ENSEMBLE = "all"
ALLOWED_RATIO = 1.3
"""What the HTTP door may cost of gRPC's."""

Ask = Callable[[], Awaitable[None]]
"""Asks one question and reads all of the answer."""


def mesh_of(members: int) -> dict[str, Any]:
    """Scripted models that all know the answer, in an ensemble that nobody leaves."""
    names = [f"model{number}" for number in range(members)]
    model = {"backend": "scripted", "scripted": {"lines": [{"answer": ANSWER}]}}
    ensemble = {"members": names, "segment_tokens": WORDS_A_SEGMENT, "exit": {"policy": "none"}}
    rules = {"max_tokens": len(ANSWER), "max_tokens_limit": len(ANSWER)}
    return {
        "models": dict.fromkeys(names, model),
        "fuser": {"ensembles": {ENSEMBLE: ensemble | rules}},
    }


def fuser_process() -> psutil.Process:
    """The fuser, among the processes that were started from here."""
    (fuser,) = (one for one in psutil.Process().children() if "fuser" in one.cmdline())
    return fuser


def cpu_seconds(process: psutil.Process) -> float:
    """What it has taken so far, of all processors."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def over_http(client: httpx2.AsyncClient) -> None:
    """A streamed chat completion."""
    body = {
        "model": ENSEMBLE,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
    }
    text = ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
    if text != ANSWER:
        raise ValueError("the answer over HTTP is another")


async def over_grpc(client: AsyncClient) -> None:
    """The same question by the contract."""
    answer = await client.generate(QUESTION, ensemble=ENSEMBLE)
    if answer.text != ANSWER:
        raise ValueError("the answer over gRPC is another")


async def cost(fuser: psutil.Process, ask: Ask, callers: int, questions: int) -> float:
    """Milliseconds of the fuser's processor time a round."""

    async def caller() -> None:
        for _ in range(questions):
            await ask()

    before = cpu_seconds(fuser)
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return 1000 * (cpu_seconds(fuser) - before) / (callers * questions * ROUNDS)


async def measured(
    addresses: MeshAddresses, callers: int, questions: int, repeats: int
) -> dict[str, list[float]]:
    """The cost of a round by door, a number for each repeat; the doors take turns."""
    fuser = fuser_process()
    limits = httpx2.Limits(max_connections=callers)
    base = f"http://{addresses.fuser.http_address}"
    async with (
        AsyncClient(addresses.fuser.address) as grpc_client,
        httpx2.AsyncClient(base_url=base, limits=limits, timeout=120) as http_client,
    ):
        doors: dict[str, Ask] = {
            "gRPC": lambda: over_grpc(grpc_client),
            "HTTP": lambda: over_http(http_client),
        }
        costs: dict[str, list[float]] = {door: [] for door in doors}
        for ask in doors.values():
            await ask()
        for _ in range(repeats):
            for door, ask in doors.items():
                costs[door].append(await cost(fuser, ask, callers, questions))
    return costs


def table_of(costs: dict[int, dict[str, list[float]]], members: int) -> Table:
    """Medians, and the median of the ratios within each turn."""
    title = f"the fuser's processor time a round, {members} members, {ROUNDS} rounds an answer"
    table = Table(
        "callers", "gRPC, ms", "HTTP, ms", f"HTTP of gRPC (<= {ALLOWED_RATIO})", title=title
    )
    for callers, by_door in costs.items():
        pairs = zip(by_door["HTTP"], by_door["gRPC"], strict=True)
        ratio = median(http / grpc for http, grpc in pairs)
        table.add_row(
            str(callers),
            f"{median(by_door['gRPC']):.2f}",
            f"{median(by_door['HTTP']):.2f}",
            f"{ratio:.2f}",
        )
    return table


def main(
    members: Annotated[int, typer.Option(min=1, max=20, help="Scripted members.")] = 5,
    callers: Annotated[list[int] | None, typer.Option(help="At a time. [default: 1, 16]")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Of each caller, a turn.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each door.")] = 5,
) -> None:
    """Measure what a round costs the fuser over each of its doors."""

    async def work(addresses: MeshAddresses) -> dict[int, dict[str, list[float]]]:
        return {
            number: await measured(addresses, number, questions, repeats)
            for number in callers or (1, 16)
        }

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mesh.yaml"
        file.write_text(yaml.safe_dump(mesh_of(members)), encoding="utf-8")
        costs = with_mesh(MeshOptions(file), work)
    Console().print(table_of(costs, members))


if __name__ == "__main__":
    typer.run(main)
