"""Services in processes of their own, as many as wanted of each kind, and what they tell."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

from specfuse.cli.mesh_run import until_serving
from specfuse.localmesh.handshake import ServiceAddresses, handshake_options

_PATIENCE_SECONDS = 120
_ENDING_SECONDS = 15
_PORTS = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}


@dataclass(frozen=True, slots=True)
class Service:
    """A service that serves: where, and in which process."""

    addresses: ServiceAddresses
    pid: int

    @property
    def address(self) -> str:
        """Where it takes calls."""
        return self.addresses.address

    def processor_seconds(self) -> float:
        """What its process has used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """The memory that its process has."""
        return int(psutil.Process(self.pid).memory_info().rss)

    async def told(self, sample: str, **labels: str) -> float:
        """The sum of its metric's samples of this name that have these labels."""
        return await told(self.addresses, sample, **labels)


async def told(addresses: ServiceAddresses, sample: str, **labels: str) -> float:
    """The sum of the samples of this name, among what a service tells, that have these labels."""
    return await asyncio.to_thread(_told, addresses, sample, labels)


def _told(addresses: ServiceAddresses, sample: str, labels: dict[str, str]) -> float:
    url = f"http://{addresses.metrics_address}/metrics"
    with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as response:
        text = response.read().decode()
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    )


@asynccontextmanager
async def services(
    kind: Literal["model", "fuser"], settings: Sequence[dict[str, Any]]
) -> AsyncIterator[list[Service]]:
    """A service for each of the settings, all started at once, from when all of them serve.

    Raises:
        RuntimeError: one ended before that; with the last line of its log.
    """
    with tempfile.TemporaryDirectory(prefix="specfuse-bench-") as name:
        starting = [
            _Starting.of(kind, one, Path(name) / str(number)) for number, one in enumerate(settings)
        ]
        try:
            serving = [await asyncio.to_thread(one.ready) for one in starting]
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await asyncio.gather(*(until_serving(one.address) for one in serving))
            yield serving
        finally:
            await asyncio.to_thread(_end, [one.process for one in starting])


@dataclass(frozen=True, slots=True)
class _Starting:
    process: subprocess.Popen[bytes]
    ready_fd: int
    log: Path

    @classmethod
    def of(cls, kind: str, settings: dict[str, Any], place: Path) -> _Starting:
        place.mkdir()
        file, log = place / "settings.yaml", place / "log"
        file.write_text(yaml.safe_dump(settings | _PORTS), encoding="utf-8")
        read_end, write_end = os.pipe()
        options = handshake_options(write_end, os.getpid())
        with log.open("wb") as output:
            process = subprocess.Popen(
                (sys.executable, "-m", "specfuse.cli", kind, "serve", str(file), *options),
                pass_fds=(write_end,),
                stdout=output,
                stderr=output,
            )
        os.close(write_end)
        return cls(process, read_end, log)

    def ready(self) -> Service:
        with os.fdopen(self.ready_fd, "rb") as pipe:
            line = pipe.readline()
        if not line:
            said = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"a service ended before it served: {said}")
        return Service(ServiceAddresses.from_line(line), self.process.pid)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
