"""Measures how a mesh grows with fusers and with replicas: `python bench/scale.py`.

Scripted members that take their time as a batching server does: so many calls at once, a time for
each token drafted and one for a score; further calls wait. They sleep rather than compute, so what
the machine has is for the fusers. Each fuser is held to a share of a core, as a container's limit
would, so that four of them can be measured on two cores; where that is not allowed, they share
what there is.

Callers come at a rate and do not wait for each other. For each number of fusers and replicas the
rate grows, from well below what the formulas of docs/scaling.md say the mesh can do to above it,
until it is not kept up with.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.cpu_share import limited, quota
from bench.fuser import ENSEMBLE, QUESTION, WORDS_A_SEGMENT, Shape
from bench.growth import Knee, Load, fusers_capacity, knee, members_capacity
from bench.open_loop import Outcome, due_times, offered, percentile
from bench.report import show
from bench.scripted import fuser_settings, model_settings
from bench.services import Service, services
from specfuse.client import AsyncClient, Segment

LEVELS = (0.5, 0.7, 0.85, 1.0, 1.2)
"""Parts of what the formulas say."""
TOKEN_SECONDS, SCORE_SECONDS = 0.05, 0.025
"""A segment here has few tokens, so that drafting it takes as long as ten tokens of 20 ms."""
ROUND_SECONDS = WORDS_A_SEGMENT * TOKEN_SECONDS + 2 * SCORE_SECONDS
CALIBRATION_RATE = 10.0
DISTURBED = 0.1
"""More than this part of the machine used by others, and the numbers are not the mesh's."""
TIMEOUT = 15.0
"""Seconds after which a caller gives up."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Of what it is made, but for how many: `places` are those of a replica, for calls; `cores`
    what a fuser may use."""

    shape: Shape
    places: int
    cores: float

    @property
    def answer_places(self) -> float:
        """Seconds for which an answer takes a place of each member."""
        return self.shape.rounds * ROUND_SECONDS


@dataclass(frozen=True, slots=True)
class Way:
    """How to measure: for how long each load is offered, and at which parts of the expected."""

    seconds: float
    levels: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Alone:
    """One fuser with all replicas, hardly any load, no limit: processor seconds of a fuser an
    answer and of a model service a call, and medians of the callers' seconds."""

    processor_seconds: float
    call_processor_seconds: float
    first_seconds: float
    answer_seconds: float


@dataclass(frozen=True, slots=True)
class Cell:
    """So many fusers over so many replicas of each member: what was expected, and what came."""

    fusers: int
    replicas: int
    fusers_capacity: float
    members_capacity: float
    loads: list[Load]
    knee: Knee


@dataclass(slots=True)
class Result:
    """All that was measured. `held` says whether fusers were held to their share."""

    members: int
    rounds: int
    places: int
    cores: float
    machine_cores: int
    held: bool = False
    alone: Alone | None = None
    cells: list[Cell] = field(default_factory=list)


def replica_settings(mesh: Mesh, member: int) -> dict[str, Any]:
    """A replica of a member, which takes its time."""
    line = {"seconds": SCORE_SECONDS, "token_seconds": TOKEN_SECONDS}
    return model_settings(mesh.shape, member, [line], mesh.places)


class Callers:
    """Who asks: each question goes to the next fuser."""

    def __init__(self, clients: Sequence[AsyncClient], expected: str) -> None:
        self._clients = clients
        self._expected = expected

    async def ask(self, number: int) -> float:
        """Asks the question of this number. Returns when its first segment came."""
        client = self._clients[number % len(self._clients)]
        first, text = 0.0, ""
        options = {"ensemble": ENSEMBLE, "timeout": TIMEOUT, "resume": "never"}
        async with aclosing(client.stream(QUESTION, **options)) as events:  # type: ignore[arg-type]
            async for event in events:
                if isinstance(event, Segment):
                    first = first or time.monotonic()
                    text += event.text
        if text != self._expected:
            raise ValueError("the answer is another")
        return first


@asynccontextmanager
async def callers(fusers: Sequence[Service], shape: Shape) -> AsyncIterator[Callers]:
    """Who asks these fusers, once each of them has answered."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(one.address)) for one in fusers]
        asking = Callers(clients, shape.answer_of(0))
        await asyncio.gather(*(asking.ask(number) for number in range(len(fusers))))
        yield asking


@dataclass(frozen=True, slots=True)
class Use:
    """What was used in so many seconds: cores by each fuser, by all members together, by the
    callers, and by whatever else runs on the machine. Of calls to members: how many there were,
    seconds that one waited for its place, and the part that was made again."""

    seconds: float
    fusers: list[float]
    members: float
    callers: float
    others: float
    calls: float
    call_waited: float
    again: float


class Meters:
    """What a load takes of everything."""

    def __init__(self, fusers: Sequence[Service], models: Sequence[Service]) -> None:
        self._fusers = fusers
        self._models = models

    async def begin(self) -> None:
        """From now on."""
        self._counts = await self._counted()
        self._clocks = self._read()

    async def use(self) -> Use:
        """Since then."""
        clocks = self._read()
        pairs = zip(clocks, self._clocks, strict=True)
        seconds, machine, own, *spent = (after - before for after, before in pairs)
        fusers = [one / seconds for one in spent[: len(self._fusers)]]
        members = sum(spent[len(self._fusers) :]) / seconds
        others = max(0.0, machine / seconds - sum(fusers) - members - own / seconds)
        counts = await self._counted()
        more = {name: counts[name] - self._counts[name] for name in counts}
        calls = max(more["calls"], 1.0)
        return Use(
            seconds,
            fusers,
            members,
            own / seconds,
            others,
            more["calls"],
            more["waited"] / calls,
            more["again"] / calls,
        )

    def _read(self) -> list[float]:
        """The clock's seconds, and the processor seconds of the machine and of each process."""
        machine = psutil.cpu_times()
        return [
            time.monotonic(),
            sum(machine) - machine.idle - getattr(machine, "iowait", 0.0),
            time.process_time(),
            *(one.processor_seconds() for one in (*self._fusers, *self._models)),
        ]

    async def _counted(self) -> dict[str, float]:
        queue = "specfuse_model_queue_duration_seconds"
        waited = (one.told(f"{queue}_sum", stage="admission") for one in self._models)
        calls = (one.told(f"{queue}_count", stage="admission") for one in self._models)
        again = (one.told("specfuse_member_second_calls_total") for one in self._fusers)
        return {
            "waited": sum(await asyncio.gather(*waited)),
            "calls": sum(await asyncio.gather(*calls)),
            "again": sum(await asyncio.gather(*again)),
        }


class Bench:
    """Measures one kind of mesh."""

    def __init__(self, mesh: Mesh, way: Way, step: Callable[[str], None]) -> None:
        self._mesh = mesh
        self._way = way
        self._step = step
        shape = mesh.shape
        cores = psutil.cpu_count() or 1
        self.result = Result(shape.members, shape.rounds, mesh.places, mesh.cores, cores)

    async def run(self, fusers: Sequence[int], replicas: Sequence[int]) -> Result:
        """Measures every number of fusers over every number of replicas."""
        members = range(self._mesh.shape.members)
        settings = [
            replica_settings(self._mesh, one) for one in members for _ in range(max(replicas))
        ]
        async with services("model", settings) as models:
            of = [models[one * max(replicas) : (one + 1) * max(replicas)] for one in members]
            async with self._fusers(1, of) as one:
                self.result.alone = await self._alone(one, models)
            for number in replicas:
                used = [each[:number] for each in of]
                async with self._fusers(max(fusers), used) as started:
                    await self._cells(fusers, started, used)
        return self.result

    def _fusers(self, number: int, replicas: Sequence[Sequence[Service]]) -> Any:  # noqa: ANN401
        members = [[one.address for one in of] for of in replicas]
        return services("fuser", [fuser_settings(self._mesh.shape, members)] * number)

    async def _alone(self, fusers: Sequence[Service], models: Sequence[Service]) -> Alone:
        meters = Meters(fusers, models)
        async with callers(fusers, self._mesh.shape) as asking:
            await meters.begin()
            outcomes = await offered(
                asking.ask, due_times(CALIBRATION_RATE, self._way.seconds, seed=0)
            )
            use = await meters.use()
        self._step("one fuser alone")
        right = [one for one in outcomes if not one.error]
        if len(right) < len(outcomes):
            raise RuntimeError("answers failed where there was hardly any load")
        return Alone(
            use.fusers[0] * use.seconds / len(right),
            use.members * use.seconds / use.calls,
            percentile([one.first_seconds for one in right], 50),
            percentile([one.answer_seconds for one in right], 50),
        )

    async def _cells(
        self,
        numbers: Sequence[int],
        fusers: Sequence[Service],
        replicas: Sequence[Sequence[Service]],
    ) -> None:
        models = [one for of in replicas for one in of]
        with limited([one.pid for one in fusers], self._mesh.cores) as held:
            self.result.held = held
            for number in numbers:
                cell = await self._cell(fusers[:number], models, len(replicas[0]))
                self.result.cells.append(cell)

    async def _cell(
        self, fusers: Sequence[Service], models: Sequence[Service], replicas: int
    ) -> Cell:
        alone = self.result.alone
        assert alone is not None
        cores = self._mesh.cores if self.result.held else 1.0
        by_fusers = fusers_capacity(len(fusers), cores, alone.processor_seconds)
        by_members = members_capacity(replicas, self._mesh.places, self._mesh.answer_places)
        loads = []
        async with callers(fusers, self._mesh.shape) as asking:
            for level in self._way.levels:
                rate = level * min(by_fusers, by_members)
                loads.append(await self._load(asking, rate, Meters(fusers, models)))
                self._step(f"{len(fusers)} fusers, {replicas} replicas, {rate:.0f} a second")
                if not loads[-1].kept_up(alone.answer_seconds):
                    break
        found = knee(loads, alone.answer_seconds)
        return Cell(len(fusers), replicas, by_fusers, by_members, loads, found)

    async def _load(self, asking: Callers, rate: float, meters: Meters) -> Load:
        """Offers a rate, first for as long as an answer takes unloaded, which does not count."""
        assert self.result.alone is not None
        warm = 1.5 * self.result.alone.answer_seconds
        until = warm + self._way.seconds

        async def used() -> Use:
            await asyncio.sleep(warm)
            await meters.begin()
            await asyncio.sleep(self._way.seconds)
            return await meters.use()

        async with asyncio.TaskGroup() as group:
            use = group.create_task(used())
            asked = group.create_task(offered(asking.ask, due_times(rate, until, seed=1)))
        return load_of(asked.result(), (warm, until), self._busy(use.result()))

    def _busy(self, use: Use) -> dict[str, float]:
        """What was used, as parts of what there is."""
        cores = self.result.machine_cores
        all_used = sum(use.fusers) + use.members + use.callers + use.others
        return {
            "fuser_busy": max(use.fusers) / (self._mesh.cores if self.result.held else 1.0),
            "machine_busy": all_used / cores,
            "others_busy": use.others / cores,
            "callers_busy": use.callers,
            "member_wait": use.call_waited / (ROUND_SECONDS / 2),
            "again": use.again,
        }


def load_of(
    outcomes: Sequence[Outcome], counted: tuple[float, float], busy: dict[str, float]
) -> Load:
    """What became of the questions that were due, and the answers that ended, in this time."""
    begin, end = counted
    due = [one for one in outcomes if begin <= one.due < end]
    right = [one for one in due if not one.error]
    ended = [one for one in outcomes if begin <= one.end < end and not one.error]
    firsts = [one.first_seconds for one in right]
    answers = [one.answer_seconds for one in right]
    return Load(
        offered=len(due) / (end - begin),
        answered=len(ended) / (end - begin),
        failed=len(due) - len(right),
        first_p50=percentile(firsts, 50),
        first_p99=percentile(firsts, 99),
        answer_p50=percentile(answers, 50),
        answer_p99=percentile(answers, 99),
        **busy,
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def growth_table(result: Result) -> Table:
    """Where the knee is for each number of fusers and replicas."""
    assert result.alone is not None
    table = _table(
        "answers a second that are kept up with",
        "fusers",
        "replicas",
        "kept up with",
        "no longer",
        "fusers are good for",
        "members are good for",
        "exhausted first",
    )
    for cell in result.cells:
        lost = cell.knee.first_lost
        table.add_row(
            str(cell.fusers),
            str(cell.replicas),
            f"{cell.knee.most:.1f}" if cell.knee.most else f"below {lost:.1f}",
            "-" if lost is None else f"{lost:.1f}",
            f"{cell.fusers_capacity:.1f}",
            f"{cell.members_capacity:.1f}",
            ", ".join(cell.knee.because) or ("-" if lost is None else "nothing found"),
        )
    share = f"{result.cores:g} of a core each" if result.held else "not held to a share"
    round_ms = 1000 * result.alone.processor_seconds / result.rounds
    table.caption = (
        f"{result.members} members, {result.rounds} rounds an answer, {result.places} places a "
        f"replica; fusers {share}; {result.machine_cores} cores. Hardly loaded, an answer takes "
        f"{1000 * result.alone.answer_seconds:.0f} ms, its first segment "
        f"{1000 * result.alone.first_seconds:.0f} ms, a fuser {round_ms:.2f} ms of processor time "
        f"a round, a model service {1000 * result.alone.call_processor_seconds:.2f} ms a call."
    )
    others = max(load.others_busy for cell in result.cells for load in cell.loads)
    if others > DISTURBED:
        table.caption += (
            f" Others used up to {others:.0%} of the machine: measure again where nobody does."
        )
    return table


def loads_table(result: Result) -> Table:
    """Every load that was offered."""
    table = _table(
        "what became of each load",
        "fusers",
        "replicas",
        "offered",
        "answered",
        "failed",
        "first segment p50, ms",
        "p99",
        "answer p50, ms",
        "p99",
        "fuser busy",
        "calls wait",
        "made again",
        "machine busy",
    )
    for cell in result.cells:
        for load in cell.loads:
            seconds = (load.first_p50, load.first_p99, load.answer_p50, load.answer_p99)
            table.add_row(
                str(cell.fusers),
                str(cell.replicas),
                f"{load.offered:.1f}",
                f"{load.answered:.1f}",
                str(load.failed),
                *(f"{1000 * one:.0f}" for one in seconds),
                f"{load.fuser_busy:.0%}",
                f"{load.member_wait:.2f} x",
                f"{load.again:.1%}",
                f"{load.machine_busy:.0%}",
            )
    return table


def report(result: Result, json_file: Path | None) -> None:
    """Tells what was measured, though it may have been interrupted."""
    if result.cells:
        show(growth_table(result), loads_table(result))
    if json_file:
        json_file.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")


def main(  # noqa: PLR0913, PLR0917 - the options of a command line
    fusers: Annotated[list[int] | None, typer.Option(min=1, help="[1, 2, 4]")] = None,
    replicas: Annotated[
        list[int] | None, typer.Option(min=1, help="Of each member. [1, 2, 4]")
    ] = None,
    members: Annotated[int, typer.Option(min=2, max=20, help="Scripted members.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, max=1024, help="Of an answer.")] = 5,
    places: Annotated[int, typer.Option(min=1, help="Calls at once of a replica.")] = 32,
    cores: Annotated[float, typer.Option(help="That each fuser may use, if allowed.")] = 0.2,
    level: Annotated[
        list[float] | None, typer.Option(help=f"Loads, as parts of the expected. {[*LEVELS]}")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="That each load is offered for.")] = 15.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers here.")
    ] = None,
) -> None:
    """Measure answers a second and their delay against load, by fusers and by replicas."""
    if json_file and not json_file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no directory {json_file.parent}", param_hint="--json")
    try:
        quota(cores)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--cores") from None
    numbers = sorted(fusers or (1, 2, 4)), sorted(replicas or (1, 2, 4))
    way = Way(seconds, tuple(sorted(level or LEVELS)))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        steps = 1 + len(way.levels) * len([*product(*numbers)])
        task = progress.add_task("starting", total=steps)
        mesh = Mesh(Shape(members, rounds), places, cores)
        bench = Bench(mesh, way, lambda what: progress.update(task, advance=1, description=what))
        try:
            asyncio.run(bench.run(*numbers))
        finally:
            report(bench.result, json_file)


if __name__ == "__main__":
    typer.run(main)
