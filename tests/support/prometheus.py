"""A Prometheus server of a test's own."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import yaml

PROGRAM = shutil.which("prometheus")
_PATIENCE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.05
_SCRAPE_INTERVAL = "200ms"

Series: TypeAlias = "Mapping[str, str]"
"""The labels of one."""


class Prometheus:
    """A server that scrapes."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def query(self, query: str) -> list[tuple[Series, float]]:
        """The series that a query comes to now, and the value of each."""
        answer = await self._get("/api/v1/query", query=query)
        assert answer["status"] == "success", answer
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    async def comes_to(self, query: str, *values: float) -> None:
        """Returns once a query comes to just so many series, with these values."""
        found: list[float] = []
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while (found := [value for _, value in await self.query(query)]) != list(values):  # noqa: ASYNC110 (behind a socket)
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{query} is {found}, and not {list(values)}") from None

    async def is_ready(self) -> None:
        """Returns once it answers."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                try:
                    await asyncio.to_thread(urllib.request.urlopen, self._url("/-/ready"))
                except OSError:
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                else:
                    return

    async def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self._url(path)}?{urllib.parse.urlencode(parameters)}"

        def read() -> dict[str, Any]:
            try:
                with urllib.request.urlopen(url) as response:
                    answer: dict[str, Any] = json.load(response)
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error
            return answer

        return await asyncio.to_thread(read)

    def _url(self, path: str) -> str:
        return f"http://{self._address}{path}"


@asynccontextmanager
async def scraping(
    folder: Path, targets: Sequence[tuple[str, Series]]
) -> AsyncIterator[Prometheus]:
    """A server, from when it answers. Each target is an address, and the labels it is given."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    statics = [{"targets": [at], "labels": dict(labels)} for at, labels in targets]
    jobs = [{"job_name": "specfuse", "static_configs": statics}]
    file = folder / "prometheus.yml"
    scrapes = {"scrape_interval": _SCRAPE_INTERVAL, "scrape_timeout": _SCRAPE_INTERVAL}
    file.write_text(yaml.safe_dump({"global": scrapes, "scrape_configs": jobs}))
    command = [
        str(PROGRAM),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        server = Prometheus(address)
        await server.is_ready()
        yield server
    finally:
        process.kill()
        await process.wait()
