"""The /metrics endpoint over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric

from specfuse.errors import Misconfigured
from specfuse.observability.metrics_endpoint import MetricsEndpoint
from tests.support.http_caller import Parsed, answer_to, calling

TEXT = "text/plain; version=0.0.4; charset=utf-8"
HALF_OPEN = 400
DESCRIPTORS, THREADS = 80, 4
"""Most that strangers may cost, whatever their number."""


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with a number in it."""
    registry = CollectorRegistry()
    Counter("specfuse_things", "Things.", registry=registry).inc(3)
    return registry


@pytest.fixture
async def endpoint(registry: CollectorRegistry) -> AsyncIterator[MetricsEndpoint]:
    """An endpoint that serves the registry."""
    endpoint = await MetricsEndpoint.start("127.0.0.1:0", registry)
    yield endpoint
    await endpoint.stop()


async def asked(endpoint: MetricsEndpoint, first: str = "GET /metrics", **headers: str) -> Parsed:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return await answer_to(endpoint.address, f"{first} HTTP/1.1\r\n{lines}\r\n".encode())


def scraped(address: str) -> str:
    """What a client of the standard library is told."""
    with urlopen(f"http://{address}/metrics", timeout=10) as response:
        text: str = response.read().decode()
        return text


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_metrics_are_those_of_the_registry(registry: CollectorRegistry) -> None:
    endpoint = await MetricsEndpoint.start("127.0.0.1:0", registry)
    body = await asyncio.to_thread(scraped, endpoint.address)
    await endpoint.stop()
    assert "specfuse_things_total 3.0" in body
    assert "python_info" not in body
    with pytest.raises(URLError):
        await asyncio.to_thread(scraped, endpoint.address)


async def test_port_in_use_is_an_error_that_names_it(endpoint: MetricsEndpoint) -> None:
    with pytest.raises(Misconfigured, match=f"metrics_listen: cannot bind {endpoint.address}"):
        await MetricsEndpoint.start(endpoint.address, CollectorRegistry())


@pytest.mark.parametrize("listen", ["9090", "127.0.0.1:many", "no.such.host.invalid:0", "a..b:0"])
async def test_malformed_address_is_an_error(listen: str) -> None:
    with pytest.raises(Misconfigured, match="metrics_listen: "):
        await MetricsEndpoint.start(listen, CollectorRegistry())


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET /metrics", 200),
        ("GET /metrics?format=any", 200),
        ("HEAD /metrics", 200),
        ("POST /metrics", 405),
        ("get /metrics", 405),
        ("GET /", 404),
        ("GET /metrics/", 404),
        ("GET /etc/passwd", 404),
        ("DELETE /other", 404),
    ],
)
async def test_only_metrics_can_be_had_and_only_be_read(
    endpoint: MetricsEndpoint, first: str, status: int
) -> None:
    assert (await asked(endpoint, first)).status == status


async def test_refusals_say_what_would_be_right(endpoint: MetricsEndpoint) -> None:
    assert (await asked(endpoint, "GET /")).body == b"Not Found: the metrics are at /metrics\n"
    assert (await asked(endpoint, "PUT /metrics")).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text; version=abc", TEXT),
        ("application/openmetrics-text; version=", "application/openmetrics-text"),
        ("text/plain; version=1.x", TEXT),
        ("text/plain; version=-", TEXT),
        (f"text/plain; version={'9' * 5000}", TEXT),
        ("image/png", TEXT),
        (";;,,==\xff", TEXT),
        ("", TEXT),
    ],
)
async def test_the_format_is_the_one_asked_for_or_else_text(
    endpoint: MetricsEndpoint, accept: str, content_type: str
) -> None:
    response = await asked(endpoint, Accept=accept)
    assert response.status == 200
    assert response.headers["content-type"].startswith(content_type)
    assert b"specfuse_things_total 3.0" in response.body
    assert response.body.endswith(b"# EOF\n") == (content_type != TEXT)


async def test_metrics_are_compressed_for_whom_that_suits(endpoint: MetricsEndpoint) -> None:
    response = await asked(endpoint, Accept_Encoding="deflate, gzip;q=1.0")
    assert response.headers["content-encoding"] == "gzip"
    assert b"specfuse_things_total 3.0" in gzip.decompress(response.body)


async def test_metrics_that_cannot_be_collected_are_an_error_for_the_scraper_alone(
    endpoint: MetricsEndpoint, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def describe(self) -> Iterator[Metric]:
            return iter(())

        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("inner")

    registry.register(Broken())
    response = await asked(endpoint)
    assert response.status == 500
    assert response.body == b"Internal Server Error\n"
    assert "inner" in caplog.text


async def test_half_open_requests_cost_little_and_keep_no_scraper_out(
    endpoint: MetricsEndpoint,
) -> None:
    threads, files = threading.active_count(), descriptors()
    async with AsyncExitStack() as stack:
        half = b"GET /metrics HTTP/1.1\r\n"
        callers = [
            await stack.enter_async_context(calling(endpoint.address, half))
            for _ in range(HALF_OPEN)
        ]
        assert b"503" in await callers[0].rest()
        assert descriptors() - files - HALF_OPEN < DESCRIPTORS
        assert "specfuse_things_total 3.0" in await asyncio.to_thread(scraped, endpoint.address)
        assert threading.active_count() - threads < THREADS
        await asyncio.wait_for(endpoint.stop(), 5)
