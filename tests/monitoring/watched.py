"""A mesh with teams under traffic, and the Prometheus and Alertmanager that watch it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from deploy.monitoring.alerts import catalogue, plain, values
from specfuse.client import AsyncClient
from specfuse.errors import SpecFuseError
from tests.monitoring.programs import ALERTMANAGER
from tests.monitoring.receiver import Exporter, Receiver, served
from tests.robustness import questions
from tests.robustness.mesh import Mesh, running_mesh, scripted
from tests.robustness.nodes import PATIENCE_SECONDS, Node, free_address
from tests.support.certificates import Authority, Identity
from tests.support.prometheus import Prometheus, scraping
from tests.support.repository import REPOSITORY

NAMESPACE = "ai"
TEAMS: Mapping[str, Mapping[str, int]] = {"search": {}, "mail": {"requests_per_minute": 5}}
WINDOW = "10s"
SCRAPED_EVERY = "1s"
PLACES = 12
"""Answers at a time."""

QUICK: Mapping[str, Any] = {
    "window": WINDOW,
    "longWindow": "15s",
    "for": dict.fromkeys((alert.name for alert in catalogue.ALERTS), "1s"),
    "thresholds": {
        "roundSeconds": 1,
        "firstSegmentSeconds": 1,
        "winSegments": 20,
        "failedRequests": 3,
        "winShare": 0.9,
    },
}
"""Values of the rules with which seconds are enough."""


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
    asked: tuple[str, ...] = questions.QUESTIONS
    """What the callers ask, one after the other."""
    answers: int = 0

    @property
    def fuser(self) -> Node:
        """The only one."""
        return self.mesh.fusers[0]

    async def fires(self, name: str) -> dict[str, Any]:
        """The alert, as soon as it fires."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for alert in await self.prometheus.firing():
                    if alert["labels"]["alertname"] == name:
                        return alert
                await asyncio.sleep(0.2)

    async def is_over(self, name: str) -> None:
        """Returns as soon as no alert of that name fires."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while name in await self.firing():  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.2)

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in await self.prometheus.firing()}

    async def scraped(self, times: int) -> None:
        """Returns once Prometheus has seen so much of the traffic."""
        seen = f'count_over_time(up{{pod="{self.fuser.name}"}}[1h])'
        await self.prometheus.comes_to(f"{seen} >= bool {times}", 1)

    def expires(self, days: float) -> None:
        """Has the certificate of the fuser's HTTP door be valid for so long from now on."""
        now = datetime.now(UTC)
        self.authority.renew(self.identity, now - timedelta(days=1), now + timedelta(days=days))


async def ask(watched: Watched, team: str, question: str, seconds: float = 10.0) -> None:
    """Asks, once, and takes whatever comes of it."""
    client = AsyncClient(watched.fuser.address, api_key=watched.keys.get(team, ""))
    async with client:
        stream = client.stream(question, timeout=seconds, resume="never")
        try:
            async with aclosing(stream):
                async for _ in stream:
                    pass
            watched.answers += 1
        except SpecFuseError:
            pass  # what becomes of requests is what Prometheus is there to tell


async def _keep_asking(watched: Watched, team: str) -> None:
    number = 0
    while True:
        await ask(watched, team, watched.asked[number % len(watched.asked)])
        number += 1
        await asyncio.sleep(0.2)  # a caller that reads


@asynccontextmanager
async def watched_mesh(folder: Path, override: Mapping[str, Any] = QUICK) -> AsyncIterator[Watched]:
    """All of it, with two callers that keep asking; `override` is of the rules' values."""
    async with AsyncExitStack() as stack:
        receiver, exporter = Receiver(), Exporter("gamma")
        stack.enter_context(served(receiver, exporter))
        keys = {team: _new_key(folder / "keys.yaml", team) for team in TEAMS}
        authority = Authority.create(folder)
        identity = authority.issue("fuser")
        shape = scripted(fusers=1, **_fuser(folder, identity))
        shape = replace(
            shape, ensemble=shape.ensemble | {"straggler_grace_seconds": 5.0, "max_misses": 1000}
        )
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
            callers = [group.create_task(_keep_asking(watched, t)) for t in ("search", "anonymous")]
            try:
                yield watched
            finally:
                for caller in callers:
                    caller.cancel()


def _fuser(folder: Path, identity: Identity) -> dict[str, Any]:
    """The fuser's settings: teams, an HTTP door with a certificate, and not too many places."""
    tls = {"certificate": str(identity.certificate), "key": str(identity.key)}
    return {
        "limits": {"requests_in_flight": PLACES},
        "http": {"listen": free_address(), "tls": tls},
        "tenancy": {
            "anonymous": "allow",
            "keys": str(folder / "keys.yaml"),
            "teams": {name: dict(limits) for name, limits in TEAMS.items()},
        },
    }


def _settings(folder: Path, override: Mapping[str, Any], alertmanager: str) -> dict[str, Any]:
    """Of Prometheus: the rules as they are, but with these values."""
    rules = folder / "rules.yaml"
    rules.write_text(plain.text(values.read(override)))
    return {
        "global": {
            "scrape_interval": SCRAPED_EVERY,
            "scrape_timeout": SCRAPED_EVERY,
            "evaluation_interval": SCRAPED_EVERY,
        },
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }


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
