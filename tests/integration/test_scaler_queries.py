"""What scalers ask of Prometheus, asked of a real one that scrapes a real mesh.

The queries are those of docs/scaling.md, and of every scaler in the chart's examples.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fuser_service import main as fuser_main
from fuser_service.settings.settings import Settings as FuserSettings
from model_service import main as model_main
from model_service.settings import Settings as ModelSettings
from specfuse.rpc.channels import open_channel
from specfuse.serving.running import RunningService
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.prometheus import PROGRAM, Prometheus, scraping
from tests.support.repository import REPOSITORY

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs prometheus")

DOCUMENT = REPOSITORY / "docs" / "scaling.md"
CHART = REPOSITORY / "deploy" / "helm" / "specfuse"
SERIES = (
    "specfuse_member_sessions",
    "specfuse_ensemble_sessions",
    "specfuse_model_requests_waiting",
)
SESSIONS, ENSEMBLE, QUEUE = SERIES
FREE = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
NAMESPACE = "models"
RELEASE = "specfuse"
"""That of the examples. The chart's monitors have every series say whose it is."""
ASLEEP = "asleep"


@dataclass(frozen=True)
class Query:
    """A query of a scaler, to which no series is an error, unless it takes that for 0."""

    text: str
    needs_a_series: bool = True

    @property
    def member(self) -> str:
        """Whom it is about."""
        return self._matched("model_name") or "llama"

    @property
    def namespace(self) -> str:
        """Where it looks."""
        return self._matched("namespace") or NAMESPACE

    @property
    def ensembles(self) -> list[str]:
        """The ensembles that it names."""
        return [name for name in self._matched("ensemble").split("|") if name]

    @property
    def series(self) -> str:
        """What it counts."""
        (series,) = (one for one in SERIES if one in self.text)
        return series

    @property
    def of_fusers(self) -> bool:
        """Whether fusers tell it."""
        return self.series != QUEUE

    def _matched(self, label: str) -> str:
        found = re.search(rf'\b{label}=~?"([^"]*)"', self.text)
        return found[1] if found else ""


def documented() -> list[Query]:
    """The queries of the documentation."""
    return [
        Query(text.strip())
        for text in re.findall(r"```promql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    ]


def triggers(golden: Path) -> Iterator[Query]:
    """The queries of the scalers that Helm made of an example."""
    for one in yaml.safe_load_all(golden.read_text()):
        for trigger in one["spec"]["triggers"] if one and one["kind"] == "ScaledObject" else ():
            metadata = trigger["metadata"]
            yield Query(metadata["query"], metadata.get("ignoreNullValues") == "false")


SOURCES: dict[str, list[Query]] = {
    "docs/scaling.md": documented(),
    **{
        file.parent.name: queries
        for file in sorted(CHART.glob("examples/*/golden.yaml"))
        if (queries := list(triggers(file)))
    },
}


@dataclass
class Mesh:
    """Two fusers, a model service for each member but the one that sleeps, and who scrapes them.

    Each model service works on one call at a time, and no call is ever answered.
    """

    prometheus: Prometheus
    fusers: Sequence[RunningService]
    stubs: Sequence[FuserServiceStub]
    models: dict[str, RunningService]

    def ask(self, fuser: int, ensemble: str) -> Any:
        """A query that lasts until it is cancelled."""
        return self.stubs[fuser].Generate(pb.GenerateRequest(raw_prompt="?", ensemble=ensemble))


@asynccontextmanager
async def mesh_for(queries: Sequence[Query], folder: Path) -> AsyncIterator[Mesh]:
    """A mesh with whatever the queries name."""
    members = sorted({query.member for query in queries})
    (namespace,) = {query.namespace for query in queries}
    async with AsyncExitStack() as stack:
        models = {name: await _started(stack, model_main.start(_model(name))) for name in members}
        addresses = {name: model.address for name, model in models.items()}
        settings = _fuser(addresses, ensembles_of(queries))
        fusers = [await _started(stack, fuser_main.start(settings)) for _ in range(2)]
        channels = [await stack.enter_async_context(open_channel(f.address)) for f in fusers]
        collected = {"namespace": namespace, "app_kubernetes_io_instance": RELEASE}
        targets = [
            (service.metrics_address, {**collected, "pod": f"pod-{number}"})
            for number, service in enumerate((*fusers, *models.values()))
        ]
        prometheus = await stack.enter_async_context(scraping(folder, targets))
        stubs = [FuserServiceStub(channel) for channel in channels]
        yield Mesh(prometheus, fusers, stubs, models)


async def _started(stack: AsyncExitStack, starting: Any) -> RunningService:
    service: RunningService = await starting
    stack.push_async_callback(service.stop)
    return service


def _model(name: str) -> ModelSettings:
    script = {"backend": "scripted", "scripted": {"lines": [{"hangs": True}]}}
    limits = {"running_calls": 1}
    document = FREE | script | {"name": name, "limits": limits}
    return ModelSettings.parse(json.dumps(document), source="model.yaml")


def _fuser(members: dict[str, str], ensembles: Sequence[str]) -> FuserSettings:
    """Ensembles of all members, and ASLEEP with one more, of which there is no replica."""
    known = {name: {"endpoints": [address]} for name, address in members.items()}
    everybody = {"members": list(members), "exit": {"policy": "none"}}
    more = {"members": [*members, "nobody"], "quorum": len(members) + 1, "wake_seconds": 300.0}
    document = FREE | {
        "members": {**known, "nobody": {"endpoints": ["127.0.0.1:9"]}},
        "ensembles": {**dict.fromkeys(ensembles, everybody), ASLEEP: everybody | more},
    }
    return FuserSettings.parse(json.dumps(document), source="fuser.yaml")


def ensembles_of(queries: Sequence[Query]) -> list[str]:
    """The ensembles that the queries name, or one."""
    return sorted({name for query in queries for name in query.ensembles}) or ["assistant"]


def test_a_chart_has_scalers_whose_queries_can_be_tried() -> None:
    assert SOURCES["docs/scaling.md"]
    assert CHART.is_dir() == (len(SOURCES) > 1)


@pytest.mark.parametrize("source", SOURCES)
async def test_every_query_of_a_scaler_is_one_series_and_says_what_there_is(
    source: str, tmp_path: Path
) -> None:
    queries = SOURCES[source]
    async with mesh_for(queries, tmp_path) as mesh:
        await come_to(mesh, queries, sessions=0)

        # Three at one fuser and two at the other, of each ensemble.
        names = ensembles_of(queries)
        asked = [mesh.ask(number % 2, name) for name in names for number in range(5)]
        await come_to(mesh, queries, sessions=len(asked))
        held = [mesh.ask(0, ASLEEP) for _ in range(2)]
        await come_to(mesh, queries, sessions=len(asked), held=2)

        for call in held:
            call.cancel()
        await come_to(mesh, queries, sessions=len(asked))
        for call in asked:
            call.cancel()
        await come_to(mesh, queries, sessions=0)


async def come_to(mesh: Mesh, queries: Sequence[Query], *, sessions: int, held: int = 0) -> None:
    """Returns once every query is one series with what there is of it.

    Of the calls to each member one is worked on and the others wait; those that are held make none.
    """
    floor = float(sessions > 0)
    values = {SESSIONS: sessions + held, ENSEMBLE: floor, QUEUE: max(0, sessions - 1)}
    await mesh.prometheus.comes_to(f'sum(specfuse_requests_waking{{ensemble="{ASLEEP}"}})', held)
    for query in queries:
        await mesh.prometheus.comes_to(query.text, values[query.series])


@pytest.mark.parametrize("source", SOURCES)
async def test_without_a_fuser_there_is_no_series_and_no_scaler_takes_that_for_nobody(
    source: str, tmp_path: Path
) -> None:
    """Else models would be taken away whenever fusers cannot be scraped."""
    queries = [query for query in SOURCES[source] if query.of_fusers]
    assert SESSIONS in {query.series for query in queries}
    async with mesh_for(queries, tmp_path) as mesh:
        await mesh.fusers[0].stop()
        for query in queries:
            await mesh.prometheus.comes_to(query.text, 0)  # the other one's
        await mesh.fusers[1].stop()
        for query in queries:
            await mesh.prometheus.comes_to(query.text)
            assert query.needs_a_series, query


@pytest.mark.parametrize("source", SOURCES)
async def test_what_a_member_that_sleeps_is_woken_by_is_there_while_it_sleeps(
    source: str, tmp_path: Path
) -> None:
    """Its own service is not there to be scraped; whoever reads that must take it for no queue."""
    queries = SOURCES[source]
    async with mesh_for(queries, tmp_path) as mesh:
        await asyncio.gather(*(model.stop() for model in mesh.models.values()))
        held = mesh.ask(0, ASLEEP)
        for query in queries:
            if query.series == SESSIONS:
                await mesh.prometheus.comes_to(query.text, 1)
            elif query.series == QUEUE and query.needs_a_series:
                await mesh.prometheus.comes_to(query.text, 0)
        held.cancel()
