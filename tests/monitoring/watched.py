"""A mesh with teams under traffic, and the Prometheus and Alertmanager that watch it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from deploy.monitoring.alerts import catalogue, plain, values
from deploy.monitoring.alerts.rules import Alert
from specfuse.client import AsyncClient
from specfuse.errors import SpecFuseError
from tests.monitoring.programs import ALERTMANAGER
from tests.monitoring.receiver import Exporter, Receiver, served
from tests.monitoring.shape import ALL, ASKED, MODELS, TEAMS, watched_shape
from tests.robustness.mesh import Mesh, running_mesh
from tests.robustness.nodes import PATIENCE_SECONDS, Node, free_address
from tests.support.certificates import Authority, Identity
from tests.support.fakes.vllm import FakeVllm
from tests.support.prometheus import Prometheus, scraping
from tests.support.repository import REPOSITORY

NAMESPACE = "ai"
WINDOW = "10s"
SCRAPED_SECONDS = 2
"""As long as a scrape may take: on a machine that is busy it takes most of it."""
EVALUATED_EVERY = "1s"
QUICK: Mapping[str, Any] = {
    "window": WINDOW,
    "longWindow": "20s",
    "for": dict.fromkeys((alert.name for alert in catalogue.ALERTS), "1s"),
    "thresholds": {
        "roundSeconds": 1.5,
        "firstSegmentSeconds": 1.5,
        "busyRequests": 5,
        "winSegments": 35,
        "failedRequests": 3,
        "winShare": 0.9,
        "kvUsage": 0.5,
    },
}
"""Values of the rules with which seconds are enough, and a cache of a few contexts."""

BURN_WINDOWS: Mapping[str, str] = {
    "5m": "10s",
    "30m": "12s",
    "1h": "14s",
    "2h": "16s",
    "6h": "18s",
    "1d": "20s",
    "3d": "22s",
}
"""What stands for the windows of the error budget, which are no values."""


OF_LATENCY = frozenset(rule.name for rule in catalogue.LATENCY.rules if isinstance(rule, Alert))
"""Alerts that tell of how long something takes."""

Told: TypeAlias = tuple[str, str]
"""An alert's name and severity."""


def told(alert: Mapping[str, Any]) -> Told:
    """Which alert it is, by its labels."""
    return alert["labels"]["alertname"], alert["labels"]["severity"]


@dataclass
class Watched:
    """A mesh and what watches it."""

    mesh: Mesh
    prometheus: Prometheus
    receiver: Receiver
    exporter: Exporter
    keys: Mapping[str, str]
    authority: Authority
    identity: Identity
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ASKED)
    """What the callers ask of each ensemble, one after the other; nothing of those not named."""
    answers: int = 0

    @property
    def fuser(self) -> Node:
        """The only one."""
        return self.mesh.fusers[0]

    async def fires(self, alert: Told) -> dict[str, Any]:
        """The alert, as soon as it fires."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for one in await self.firing():
                    if told(one) == alert:
                        return one
                await asyncio.sleep(0.2)

    async def is_over(self, alert: Told) -> None:
        """Returns as soon as no such alert fires."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while alert in map(told, await self.firing()):  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.2)

    async def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire now, but not that models are slow: that is up to the machine."""
        return [
            one
            for one in await self.prometheus.firing()
            if one["labels"].get("ensemble") != MODELS or told(one)[0] not in OF_LATENCY
        ]

    async def scraped(self, times: int) -> None:
        """Returns once Prometheus has seen so much of the traffic."""
        seen = f'count_over_time(up{{pod="{self.fuser.name}"}}[1h])'
        await self.prometheus.comes_to(f"{seen} >= bool {times}", 1)

    def expires(self, days: float) -> None:
        """Has the certificate of the fuser's HTTP door be valid for so long from now on."""
        now = datetime.now(UTC)
        self.authority.renew(self.identity, now - timedelta(days=1), now + timedelta(days=days))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks an ensemble, and for how long it waits for an answer."""

    team: str
    ensemble: str = ALL
    seconds: float = 10.0
    pause: float = 0.2
    """Until it asks again, as who reads does."""


CALLERS = (Caller("search"), Caller("anonymous"), Caller("search", MODELS, pause=2.0))


async def ask(watched: Watched, caller: Caller, question: str) -> None:
    """Asks, once, and takes whatever comes of it."""
    client = AsyncClient(watched.fuser.address, api_key=watched.keys.get(caller.team, ""))
    options: Any = {"ensemble": caller.ensemble, "timeout": caller.seconds, "resume": "never"}
    async with client:
        stream = client.stream(question, **options)
        try:
            async with aclosing(stream):
                async for _ in stream:
                    pass
            watched.answers += 1
        except SpecFuseError:
            pass  # what becomes of requests is what Prometheus is there to tell


async def _keep_asking(watched: Watched, caller: Caller) -> None:
    for number in count():
        questions = watched.asked.get(caller.ensemble, ())
        if questions:
            await ask(watched, caller, questions[number % len(questions)])
        await asyncio.sleep(caller.pause)


@asynccontextmanager
async def watched_mesh(folder: Path, override: Mapping[str, Any] = QUICK) -> AsyncIterator[Watched]:
    """All of it, with callers that keep asking; `override` is of the rules' values."""
    async with AsyncExitStack() as stack:
        receiver, exporter = Receiver(), Exporter("gamma")
        stack.enter_context(served(receiver, exporter))
        keys = {team: _new_key(folder / "keys.yaml", team) for team in TEAMS}
        authority = Authority.create(folder)
        identity = authority.issue("fuser")
        server = await stack.enter_async_context(FakeVllm())
        shape = watched_shape(folder, identity, server.url)
        mesh = await stack.enter_async_context(running_mesh(shape, folder))
        alertmanager = await _alertmanager(folder, receiver, stack)
        targets = [
            (node.metrics_address, {"namespace": NAMESPACE, "pod": name})
            for name, node in mesh.nodes.items()
        ]
        targets.append((exporter.address, {"namespace": NAMESPACE}))
        more = _settings(folder, override, alertmanager)
        prometheus = await stack.enter_async_context(scraping(folder, targets, more))
        watched = Watched(mesh, prometheus, receiver, exporter, keys, authority, identity)
        watched.expires(days=60)
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(_keep_asking(watched, one)) for one in CALLERS]
            try:
                yield watched
            finally:
                for caller in callers:
                    caller.cancel()


def _settings(folder: Path, override: Mapping[str, Any], alertmanager: str) -> dict[str, Any]:
    """Of Prometheus: the rules as they are, but with these values."""
    rules = folder / "rules.yaml"
    rules.write_text(_compressed(plain.text(values.read(override))))
    return {
        "global": {
            "scrape_interval": f"{SCRAPED_SECONDS}s",
            "scrape_timeout": f"{SCRAPED_SECONDS}s",
            "evaluation_interval": EVALUATED_EVERY,
        },
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }


def _compressed(rules: str) -> str:
    """The rules with windows of the error budget that are over within seconds."""
    return re.sub(r"\[(\w+)\]", lambda found: f"[{BURN_WINDOWS.get(found[1], found[1])}]", rules)


async def _alertmanager(folder: Path, receiver: Receiver, stack: AsyncExitStack) -> str:
    """Its address, once it answers. It tells the receiver at once."""
    address = free_address()
    file = folder / "alertmanager.yml"
    timing = {"group_wait": "100ms", "group_interval": "500ms", "repeat_interval": "1h"}
    hook = {"url": f"http://{receiver.address}/", "send_resolved": True}
    route = {"receiver": "people", "group_by": ["alertname"], **timing}
    receivers = [{"name": "people", "webhook_configs": [hook]}]
    file.write_text(yaml.safe_dump({"route": route, "receivers": receivers}))
    process = await asyncio.create_subprocess_exec(
        str(ALERTMANAGER),
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=error",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(_is_ready, address):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)
    return address


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
            return True
    except OSError:
        return False


def _new_key(file: Path, team: str) -> str:
    """A key of the team, by the command that people use."""
    command = ("-m", "specfuse.cli", "keys", "new", "--file", str(file), "--team", team)
    made = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return made.stdout.strip()
