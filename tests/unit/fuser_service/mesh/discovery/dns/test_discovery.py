"""Replicas by a name that has the address of each."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

import pytest

from fuser_service.mesh.discovery.dns.discovery import NamedEndpoints, open_discovery
from fuser_service.mesh.discovery.dns.settings import DnsSection
from fuser_service.settings.settings import Settings
from specfuse.errors import Misconfigured

SECTION = DnsSection(name="llama.models", port=50051, every_seconds=0.001)
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
Said = tuple[str, ...] | OSError


class Resolver:
    """Says one thing after another, and then hangs."""

    def __init__(self, said: Sequence[Said]) -> None:
        self._said = iter(said)
        self.finished = asyncio.Event()

    async def __call__(self) -> tuple[str, ...]:
        said = next(self._said, None)
        if said is None:
            self.finished.set()
            await asyncio.Event().wait()
            raise AssertionError
        if isinstance(said, OSError):
            raise said
        return said


async def endpoints_when(*said: Said) -> list[tuple[str, ...]]:
    """All that is yielded when a name resolves so."""
    resolver = Resolver(said)
    yielded: list[tuple[str, ...]] = []

    async def watch() -> None:
        async for endpoints in NamedEndpoints(SECTION, resolver).watch():
            yielded.append(tuple(one.address for one in endpoints))  # noqa: PERF401 (it does not end)

    watching = asyncio.create_task(watch())
    await resolver.finished.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return yielded


async def test_each_address_is_an_endpoint() -> None:
    assert await endpoints_when(("10.0.0.2", "10.0.0.1", "fd00::1")) == [
        ("10.0.0.1:50051", "10.0.0.2:50051", "[fd00::1]:50051")
    ]


async def test_only_changes_are_told_whatever_the_order_and_repetitions() -> None:
    one, both = ("10.0.0.1",), ("10.0.0.1", "10.0.0.2")
    assert await endpoints_when(one, one, both, both[::-1], both * 2, one) == [
        ("10.0.0.1:50051",),
        ("10.0.0.1:50051", "10.0.0.2:50051"),
        ("10.0.0.1:50051",),
    ]


async def test_trouble_is_no_news_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    one = ("10.0.0.1",)
    assert await endpoints_when(NO_NAME, one, NO_NAME, (), NO_NAME, one, ()) == [
        ("10.0.0.1:50051",)
    ]
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "llama.models cannot be resolved: Name or service not known",
        "llama.models cannot be resolved: Name or service not known",
        "llama.models has no addresses",
    ]


async def test_a_real_name_is_resolved() -> None:
    section = DnsSection(name="localhost", port=50051)
    async for endpoints in open_discovery(section).watch():
        found = {one.address for one in endpoints}
        assert found
        assert found <= {"127.0.0.1:50051", "[::1]:50051"}
        break


def parsed(member: str) -> Settings:
    text = f"members: {{a: {member}}}\nensembles: {{e: {{members: [a]}}}}"
    return Settings.parse(text, source="fuser.yaml")


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("{dns: {name: a b, port: 1}}", r"dns\.name: 'a b'"),
        ("{dns: {name: llama}}", r"dns\.port: is required"),
        ("{dns: {name: llama, port: 0}}", r"dns\.port: 0"),
        ("{dns: {name: llama, port: 1, every: 2}}", r"dns\.every: unknown key; known: every_"),
        ("{dns: {name: llama, port: 1}, endpoints: ['h:1']}", "contradicts endpoints"),
        ("{dns: {name: llama, port: 1}, tls: {}}", "server_name is required with dns"),
        ("{}", "endpoints: is required, or else one of: dns, kubernetes"),
    ],
)
def test_wrong_settings_are_named(member: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        parsed(member)


def test_a_name_can_have_tls_with_the_name_in_the_certificate() -> None:
    member = "{dns: {name: llama, port: 1}, tls: {server_name: llama.example}}"
    assert parsed(member).members["a"].dns == DnsSection(name="llama", port=1)
