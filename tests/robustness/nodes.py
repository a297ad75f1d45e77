"""A service as a process that can be killed, stopped and started again, behind a link."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import yaml
from prometheus_client.parser import text_string_to_metric_families

from specfuse.localmesh.process import Program, ServiceProcess
from tests.robustness.clock import Clock
from tests.support.link import Link
from tests.support.repository import REPOSITORY

PATIENCE_SECONDS = 120.0
"""How long a process may take to start or to end. Never reached unless something is wrong."""

_LOW_PORTS = range(20_000, 32_000)
"""Ports that the kernel gives to no outgoing connection: a service finds its own free again."""


class Node:
    """One service: a settings file, the process that serves it, and the link in front of it.

    Its ports stay the same however often it is started. It goes by `clock`, if it has one.
    """

    def __init__(
        self,
        name: str,
        service: Literal["model", "fuser"],
        settings: Mapping[str, Any],
        directory: Path,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self._service = service
        self._directory = directory
        self._address, self._metrics_address = free_address(), free_address()
        self.settings = dict(settings)
        """With what it is started, the next time."""
        self._starts = 0
        self._process: ServiceProcess | None = None
        self.link = Link(self._address)

    @property
    def address(self) -> str:
        """Where others reach it: at its link."""
        return self.link.address

    @property
    def direct_address(self) -> str:
        """Where it listens itself."""
        return self._address

    @property
    def metrics_address(self) -> str:
        """Where it exports its metrics."""
        return self._metrics_address

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._running.pid

    @property
    def log(self) -> str:
        """All that it has written, in whichever of its lives."""
        files = sorted(self._directory.glob(f"{self.name}.*.log"))
        return "".join(file.read_text(errors="replace") for file in files)

    async def start(self) -> None:
        """Starts the process; returns when it says that it serves."""
        listening = {"listen": self._address, "metrics_listen": self._metrics_address}
        file = self._directory / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(self.settings | listening))
        prefix = () if self.clock is None else self.clock.prefix
        argv = (*prefix, sys.executable, "-m", "specfuse.cli", self._service, "serve", str(file))
        self._starts += 1
        log = self._directory / f"{self.name}.{self._starts}.log"
        self._process = await ServiceProcess.start(Program(self.name, argv, REPOSITORY), log)
        async with asyncio.timeout(PATIENCE_SECONDS):
            serves = await self._process.ready()
        assert serves, f"{self.name} did not start: {self._process.last_lines(10)}"

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended."""
        return self._running.exit_code is not None

    async def ensure_running(self) -> None:
        """Starts the process if it has ended."""
        if self.has_ended:
            await self.start()

    def limit(self, resource_: int, most: int | None) -> None:
        """Lets its process have so much of a resource (`resource.RLIMIT_...`); None: any amount."""
        _, hard = resource.prlimit(self.pid, resource_)
        resource.prlimit(self.pid, resource_, (hard if most is None else most, hard))

    def signal(self, number: signal.Signals) -> None:
        """Sends its process a signal."""
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._running.ended()

    async def end(self) -> None:
        """Ends the process, whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            await self.ended()

    async def metrics(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The samples of a metric, by their labels."""
        url = f"http://{self._metrics_address}/metrics"
        text = await asyncio.to_thread(
            lambda: urllib.request.urlopen(url, timeout=5).read().decode()
        )
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    @property
    def _running(self) -> ServiceProcess:
        assert self._process is not None, f"{self.name} was never started"
        return self._process


def free_address() -> str:
    """An address on this machine at which nobody listens."""
    ports = random.sample(_LOW_PORTS, len(_LOW_PORTS))
    port = next(port for port in ports if _is_free(port))
    return f"127.0.0.1:{port}"


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
