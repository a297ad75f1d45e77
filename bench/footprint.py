"""Measures what a query takes of a fuser besides its processor: `python bench/footprint.py`.

- memory of a query in flight, by the length of its prompt: of a fuser over members that never
  answer, before and after so many were asked;
- bytes that a call to a member takes on the network, there and back, and connections, by the
  number of members: counted between a fuser and its members while it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.fuser import ENSEMBLE, Shape
from bench.report import show
from bench.scripted import MANY, fuser_settings, model_settings
from bench.services import Service, services
from specfuse.client import AsyncClient
from specfuse.errors import SpecFuseError

PROMPTS = (1 << 10, 16 << 10, 128 << 10)
QUERIES = 200
ROUNDS = 20
HELD = "h"
"""What prompts are made of that are never answered."""
_CHUNK = 1 << 16


class Relay:
    """Forwards connections to an address and counts them, and the bytes there and back."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self.connections = 0
        self.there = 0
        self.back = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Where to connect instead."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        with suppress(ConnectionError, ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, far_writer, there=True))
                group.create_task(self._copy(far_reader, writer, there=False))

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, there: bool
    ) -> None:
        while chunk := await source.read(_CHUNK):
            if there:
                self.there += len(chunk)
            else:
                self.back += len(chunk)
            sink.write(chunk)
            await sink.drain()
        sink.close()


@asynccontextmanager
async def fuser_over(shape: Shape, addresses: Sequence[str]) -> AsyncIterator[Service]:
    """A fuser of members at these addresses, all of them connected."""
    settings = fuser_settings(shape, [[each] for each in addresses])
    async with services("fuser", [settings]) as (fuser,):
        async with AsyncClient(fuser.address) as client:
            await client.generate("q", ensemble=ENSEMBLE)
        yield fuser


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a fuser that has answered one query, and how many more for each query in flight."""

    idle: float
    query: float


async def memory_of_a_query(
    shape: Shape, addresses: Sequence[str], prompt_bytes: int, queries: int
) -> Memory:
    """What a fuser has without queries, and more for each in flight."""
    async with fuser_over(shape, addresses) as fuser:
        async with holding(fuser, prompt_bytes, 1):  # what is made once is not a query's
            pass
        idle = fuser.resident_bytes()
        async with holding(fuser, prompt_bytes, queries):
            return Memory(idle, (fuser.resident_bytes() - idle) / queries)


@asynccontextmanager
async def holding(fuser: Service, prompt_bytes: int, queries: int) -> AsyncIterator[None]:
    """So many queries are in flight meanwhile, all of whose calls to members are under way."""

    async def held(client: AsyncClient) -> None:
        with suppress(SpecFuseError):
            await client.generate(HELD * prompt_bytes, ensemble=ENSEMBLE, resume="never")

    async with AsyncClient(fuser.address) as client:
        tasks = [asyncio.create_task(held(client)) for _ in range(queries)]
        try:
            await until_held(fuser, queries)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until_held(fuser: Service, queries: int) -> None:
    """Returns once so many queries are in flight, and their calls had the time to go out."""
    async with asyncio.timeout(120):
        while await fuser.told("specfuse_requests_in_flight") < queries:  # noqa: ASYNC110 (a process)
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes there and back of each call of one answer, and connections to each member."""

    calls: int
    there: float
    back: float
    connections: int


async def traffic_of_an_answer(
    shape: Shape, addresses: Sequence[str], prompt_bytes: int
) -> Traffic:
    """What an answer takes of the network between a fuser and its members."""
    async with AsyncExitStack() as stack:
        relays = [Relay(one) for one in addresses]
        between = [await stack.enter_async_context(one.listening()) for one in relays]
        fuser = await stack.enter_async_context(fuser_over(shape, between))
        client = await stack.enter_async_context(AsyncClient(fuser.address))
        there, back = sum(one.there for one in relays), sum(one.back for one in relays)
        answer = await client.generate("q" * prompt_bytes, ensemble=ENSEMBLE)
        return Traffic(
            answer.calls_made,
            (sum(one.there for one in relays) - there) / answer.calls_made,
            (sum(one.back for one in relays) - back) / answer.calls_made,
            max(one.connections for one in relays),
        )


Key = tuple[int, int]
"""Members, and bytes of the prompt."""


async def measured(
    numbers: Sequence[int], prompts: Sequence[int], queries: int, rounds: int
) -> tuple[dict[Key, Memory], dict[Key, Traffic]]:
    """Memory and traffic by members and length of prompt."""
    most = Shape(max(numbers), rounds)
    lines: tuple[dict[str, object], ...] = ({"when": HELD, "hangs": True}, {})
    settings = [model_settings(most, number, lines) for number in range(most.members)]
    memory: dict[Key, Memory] = {}
    traffic: dict[Key, Traffic] = {}
    console = Console(stderr=True)
    async with services("model", settings) as models:
        addresses = [one.address for one in models]
        for number, prompt in product(numbers, prompts):
            console.print(f"{number} members, prompts of {prompt} bytes")
            shape, used = Shape(number, rounds), addresses[:number]
            memory[number, prompt] = await memory_of_a_query(shape, used, prompt, queries)
            traffic[number, prompt] = await traffic_of_an_answer(shape, used, prompt)
    return memory, traffic


def memory_table(measured: dict[Key, Memory]) -> Table:
    """Memory by members and length of prompt."""
    table = Table(title="memory of a fuser for a query in flight")
    for column in ("members", "prompt, bytes", "a query, KiB", "of that, copies of the prompt"):
        table.add_column(column, justify="right")
    for (members, prompt), one in measured.items():
        least = min(each for number, each in measured if number == members)
        more = one.query - measured[members, least].query
        copies = "-" if prompt == least else f"{more / (prompt - least):.1f}"
        table.add_row(str(members), f"{prompt:,}", f"{one.query / 1024:.0f}", copies)
    idle = median(one.idle for one in measured.values()) / (1 << 20)
    table.caption = f"without queries {idle:.0f} MiB"
    return table


def traffic_table(measured: dict[Key, Traffic], rounds: int) -> Table:
    """Bytes and connections, by members and length of prompt."""
    table = Table(title=f"what goes between a fuser and its members, {rounds} rounds an answer")
    for column in (
        "members",
        "prompt, bytes",
        "calls",
        "there a call, bytes",
        "more than the prompt",
        "back a call, bytes",
        "an answer, KiB",
        "connections a member",
    ):
        table.add_column(column, justify="right")
    for (members, prompt), one in measured.items():
        table.add_row(
            str(members),
            f"{prompt:,}",
            str(one.calls),
            f"{one.there:,.0f}",
            f"{one.there - prompt:,.0f}",
            f"{one.back:,.0f}",
            f"{one.calls * (one.there + one.back) / 1024:,.0f}",
            str(one.connections),
        )
    return table


def main(
    members: Annotated[list[int] | None, typer.Option(help="Scripted members. [2, 5]")] = None,
    prompt: Annotated[
        list[int] | None, typer.Option(min=1, help=f"Bytes of prompts. {[*PROMPTS]}")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, max=MANY, help="In flight.")] = QUERIES,
    rounds: Annotated[int, typer.Option(min=1, max=1024, help="Of an answer.")] = ROUNDS,
) -> None:
    """Measure memory of queries in flight, bytes of calls, and connections."""
    numbers, prompts = sorted(members or (2, 5)), sorted(prompt or PROMPTS)
    memory, traffic = asyncio.run(measured(numbers, prompts, queries, rounds))
    show(memory_table(memory), traffic_table(traffic, rounds))


if __name__ == "__main__":
    typer.run(main)
